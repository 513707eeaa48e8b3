"""Cut what identifies people out of texts before they leave this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from itertools import islice

_MAIL = re.compile(r"[\w.+%-]+\s?@\s?[\w-]+(?:\.[\w-]+)*")
_LINK = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)
_HANDLE = re.compile(r"(?<!\w)@\w+")
# Anything with a digit in it: telephone, order and card numbers, dates, house numbers, IBANs.
_NUMBER = re.compile(r"(?<!\w)[+(]?\w*\d[\w()./-]*(?:[ -][\w()./-]*\d[\w()./-]*)*")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
# What introduces a name, whether or not it is written large.
_INTRODUCTION = re.compile(
    r"\b(?:my name is|i am called|regards|sincerely|yours|signed|thanks|thank you|cheers|mr|mrs|ms|"
    r"dr|dear|hi|hello|meu nome é|meu nome e|me chamo|atenciosamente|abraços|abraço|obrigado|"
    r"obrigada|att|sr|sra|senhor|senhora|olá|ola|caro|cara)\b[ \t]*[,.:]?\s+",
    re.IGNORECASE,
)
_WORDS_OF_A_NAME = 3
_PLACES = ("mail", "link", "number", "name")


def redact(text: str, is_common: Callable[[str], bool], names: Collection[str] = ()) -> str:
    """Replace mails, links, numbers and names.

    A name is a word that is written with a capital and is not common, a word that follows a
    greeting or a signature and is not common, or one of ``names``. Rather too much is cut than too
    little: a brand or a town goes, too.

    Parameters
    ----------
    text
        What somebody wrote.
    is_common
        Whether a word, in lower case, belongs to the language rather than to a person.
    names
        Names that are known, such as those on file of the writer.

    Returns
    -------
    str
        The text with ``[mail]``, ``[link]``, ``[number]`` and ``[name]`` in their places.
    """
    known = {name.casefold() for name in names}
    text = _LINK.sub("[link]", _MAIL.sub("[mail]", text))
    text = _NUMBER.sub("[number]", _HANDLE.sub("[name]", text))

    introduced: set[int] = set()
    for match in _INTRODUCTION.finditer(text):
        following = islice(_WORD.finditer(text, match.end()), _WORDS_OF_A_NAME)
        introduced |= {word.start() for word in following}

    def cut(word: re.Match[str]) -> str:
        found = word.group(0)
        if found in _PLACES and word.string[word.start() - 1 : word.start()] == "[":
            return found
        is_suspect = found[0].isupper() or word.start() in introduced
        lower = found.casefold()
        return "[name]" if lower in known or (is_suspect and not is_common(lower)) else found

    return _WORD.sub(cut, text)
