"""Which input a file is, and which of its columns is which: by name, checked by content."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from clv_pipeline.ingest.contract import CONTRACTS, Contract
from clv_pipeline.ingest.contract import Field as ContractField
from clv_pipeline.ingest.parsing import FALSE, TRUE
from clv_pipeline.ingest.profiling import Column, Profile

# What shops call the contract's columns, likeliest first; compared without case and punctuation.
_NAMES: dict[str, str] = {
    "transaction_id": (
        "transactionid orderid orderno ordernumber ordernr invoice invoiceid invoiceno "
        "invoicenumber receiptid receiptno basketid purchaseid bestellnummer bestellnr bestellid "
        "auftragsnummer auftragsnr belegnr rechnungsnummer rechnungsnr numerocommande idpedido "
        "ordernummer"
    ),
    "user_id": (
        "userid customeruniqueid customerid custid clientid memberid personid buyerid accountid "
        "contactid loyaltyid customer client user customernumber customerno custno kundennummer "
        "kundennr kundenid kunde idclient numeroclient idcliente cliente klantnummer klantid klant "
        "householdkey visitorid emailhash customeremail useremail buyeremail clientemail email"
    ),
    "ts": (
        "ts orderts orderedat orderdate ordertimestamp orderpurchasetimestamp purchasedate "
        "purchasedat invoicedate transactiondate transactiontime saledate createdat timestamp "
        "eventtimestamp eventtime datetime occurredat date time bestelldatum rechnungsdatum datum "
        "datecommande fecha fechapedido data dataordine besteldatum reviewcreationdate sentat"
    ),
    "amount": (
        "amount totalamount orderamount lineamount netamount grossamount total ordertotal "
        "linetotal totalprice totalsales revenue netrevenue sales salesamount ordervalue value "
        "paymentvalue spend subtotal betrag umsatz summe montant importe importo bedrag "
        "preis price priceusd priceeur pricegbp unitprice"
    ),
    "currency": "currency currencycode curr waehrung",
    "channel": "channel saleschannel storechannel kanal",
    "sku": "sku stockcode productid product itemid articleid articleno primaryproductid upc ean "
    "artikelnummer artikelnr artikel produktnummer produktnr",
    "category": "category productcategory productcategoryname productgroup department kategorie "
    "warengruppe",
    "discount": "discount discountamount rebate rabatt",
    "quantity": "quantity qty pieces units itemcount menge anzahl",
    "country": "country countrycode shippingcountry billingcountry land",
    "is_refund": "isrefund isreturn isreturned refund returned refunded retoure gutschrift",
    "variable_cost": "variablecost cogs cogsusd cogseur costofgoods itemcost unitcost",
    "ingested_at": "ingestedat loadedat insertedat receivedat importedat etlloadedat",
    "signup_ts": "signupts signupat signupdate registeredat registrationdate createdat joindate "
    "joinedat accountcreated firstseen signup registrierung registrierungsdatum kundeseit",
    "device": "device devicetype platform maindevice",
    "acquisition_source": "acquisitionsource acquisitionchannel source utmsource channel "
    "marketingchannel firsttouch trafficsource",
    "birth_year": "birthyear yearofbirth birthdayyear geburtsjahr",
    "gender": "gender sex geschlecht",
    "has_email_consent": "hasemailconsent emailconsent emailoptin optin newsletter",
    "has_profiling_consent": "hasprofilingconsent profilingconsent",
    "updated_at": "updatedat modifiedat lastmodified changedat",
    "event_name": "eventname event eventtype action activity",
    "session_id": "sessionid session visitid websitesessionid",
    "metadata_json": "metadatajson metadata properties payload eventproperties",
    "kind": "kind texttype type",
    "text": "text body comment message review reviewcommentmessage reviewtext content",
    "campaign_id": "campaignid campaign campaignname",
    "arm": "arm variant testgroup treatment segment",
    "cost": "cost spend adspend costs kosten",
    "day": "day date datum",
    "old_user_id": "olduserid fromuserid mergedfrom sourceuserid oldcustomerid",
    "new_user_id": "newuserid touserid mergedinto targetuserid newcustomerid",
    "rate": "rate exchangerate fxrate kurs wechselkurs",
    "known_at": "knownat publishedat",
}
SYNONYMS = {name: tuple(words.split()) for name, words in _NAMES.items()}
UNIT_PRICES = ("price", "unitprice", "itemprice", "priceusd", "priceeur", "pricegbp", "preis")
# What a file is tried as, the most particular first.
_INPUT_ORDER = (
    "account_merges",
    "exchange_rates",
    "transactions",
    "campaign_exposures",
    "events",
    "texts",
    "acquisition_costs",
    "users",
)
_REFUND_WORDS = ("refund", "refunded", "return", "returned", "credit", "retoure", "gutschrift")
# What else has a person, an instant and maybe a number.
_OF_PEOPLE = ("campaign_exposures", "events", "texts")


@dataclass(frozen=True)
class Guess:
    """What a file is taken for.

    Attributes
    ----------
    input
        Name of the input; None when it is none.
    columns
        Source column per contract column.
    missing
        Contract columns that it would need to be transactions, or the nearest input.
    price
        Source column of the price of one piece, where amount = quantity * price.
    refund_prefix
        What the number of an order begins with when it is a refund.
    refund_word
        A column that says of each line what it is, and what it says of refunds.
    """

    profile: Profile
    input: str | None
    columns: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    price: str | None = None
    refund_prefix: str | None = None
    refund_word: tuple[str, str] | None = None


def guess_input(profile: Profile) -> Guess:
    """Say which input a file is: the first one all of whose required columns it has."""
    for name in _INPUT_ORDER:
        columns = _all_required(profile, name)
        if columns is None or not _is_plausible(profile, name, columns):
            continue
        price = _unit_price(profile, columns) if name == "transactions" else None
        word = _refund_word(profile, columns) if name == "transactions" else None
        return Guess(profile, name, columns, price=price, refund_word=word)
    columns = match_columns(profile, CONTRACTS["transactions"])
    needed = [f.name for f in CONTRACTS["transactions"].fields if f.required]
    return Guess(profile, None, columns, tuple(name for name in needed if name not in columns))


def is_named(name: str, column: str) -> bool:
    """Whether a source column's name, and not its content alone, says that it is this one."""
    return plain(column) in (plain(name), *SYNONYMS[name])


def match_columns(profile: Profile, contract: Contract) -> dict[str, str]:
    """Return the source column of each contract column that one can be found for."""
    chosen: dict[str, str] = {}
    for wanted in contract.fields:
        free = [c for c in profile.columns if c.name not in chosen.values()]
        found = _by_name(free, wanted)
        if found is None and wanted.required:
            found = _by_content(free, wanted, profile)
        if found is not None:
            chosen[wanted.name] = found.name
    return chosen


def plain(name: str) -> str:
    """Return a name in lower case, without punctuation."""
    return re.sub(r"[\W_]", "", name).lower()


def _by_name(columns: list[Column], wanted: ContractField) -> Column | None:
    fits = _CONTENT[wanted.kind]
    words = (plain(wanted.name), *SYNONYMS[wanted.name])
    candidates = [c for c in columns if is_named(wanted.name, c.name) and fits(c)]
    return min(candidates, key=lambda c: words.index(plain(c.name)), default=None)


def _by_content(columns: list[Column], wanted: ContractField, profile: Profile) -> Column | None:
    """Choose a column without a telling name, only where its content leaves little doubt."""
    if wanted.kind == "instant":
        candidates = [c for c in columns if c.is_instant]
        return candidates[0] if candidates else None
    if wanted.kind == "money" and wanted.name == "amount":
        candidates = [c for c in columns if c.is_number and c.has_decimals]
        return candidates[0] if len(candidates) == 1 else None
    if wanted.name == "user_id":
        candidates = [
            c
            for c in columns
            if re.search(r"(user|customer|client|member|buyer|kunde)", c.name, re.IGNORECASE)
            and re.search(r"(id|no|nr|number|key|code|hash|mail)$", plain(c.name))
            and _is_key(c)
        ]
        return candidates[0] if candidates else None
    return None


def _all_required(profile: Profile, name: str) -> dict[str, str] | None:
    contract = CONTRACTS[name]
    columns = match_columns(profile, contract)
    is_whole = all(f.name in columns for f in contract.fields if f.required)
    return columns if is_whole else None


def _is_plausible(profile: Profile, name: str, columns: dict[str, str]) -> bool:
    if name == "transactions":
        # What a contact, an event or a text cost is no revenue.
        amount = columns["amount"]
        is_paid = is_named("amount", amount) and not is_named("cost", amount)
        return is_paid or not any(_all_required(profile, other) for other in _OF_PEOPLE)
    if name == "users":
        # One row per person, or few versions of each.
        key = profile.column(columns["user_id"])
        return len(columns) > 1 and key.count_distinct >= 0.5 * (key.count - key.count_blank)
    if name == "acquisition_costs":
        return "user_id" not in match_columns(profile, CONTRACTS["transactions"])
    return True


def _unit_price(profile: Profile, columns: dict[str, str]) -> str | None:
    """Return the amount's column when it is the price of a piece and pieces are counted."""
    amount = columns.get("amount", "")
    if plain(amount) in UNIT_PRICES and "quantity" in columns:
        return amount
    return None


def _refund_word(profile: Profile, columns: dict[str, str]) -> tuple[str, str] | None:
    """Return a column whose few values say which lines are refunds, and that value."""
    if "is_refund" in columns:
        return None
    for column in profile.columns:
        if column.name not in columns.values() and 2 <= column.count_distinct <= len(
            column.examples
        ):
            for value in column.examples:
                if plain(value) in _REFUND_WORDS:
                    return column.name, value
    return None


def _is_key(column: Column) -> bool:
    return not column.is_instant and not column.has_decimals and column.count_distinct > 0


def _is_text(column: Column) -> bool:
    return column.count_distinct > 0


_CONTENT: dict[str, Callable[[Column], bool]] = {
    "key": _is_key,
    "text": _is_text,
    "json": _is_text,
    "instant": lambda column: column.is_instant,
    "day": lambda column: column.is_instant,
    "money": lambda column: column.is_number,
    "number": lambda column: column.is_number,
    "flag": lambda column: (
        column.type == "BOOLEAN" or {value.lower() for value in column.examples} <= {*TRUE, *FALSE}
    ),
}
