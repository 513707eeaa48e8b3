"""Whether labels can teach a model anything."""

from __future__ import annotations

from clv_pipeline.models.panel import Target

# Fewer buyers, or fewer customers who did not buy, teach a classifier nothing.
MIN_OF_EACH_CLASS = 20


class TrainingRefused(RuntimeError):  # noqa: N818 - the name says what happened, not a fault
    """Nothing trustworthy can be learned from these data; the champion stays."""


class NotTrainableError(ValueError):
    """Labels that no model can learn from; the message says why."""


def check_labels(y: Target, horizon_days: int, share: float = 1.0) -> None:
    """Refuse labels that no model can learn from.

    Raises
    ------
    NotTrainableError
        Naming the horizon and what is lacking.
    """
    least = max(int(MIN_OF_EACH_CLASS * share), 2)
    buyers = int(y.has_purchase.sum())
    if not (y.value > 0).any():
        raise NotTrainableError(f"all labels over {horizon_days} days are zero.")
    if buyers < least or len(y) - buyers < least:
        raise NotTrainableError(
            f"of {len(y)} labels over {horizon_days} days {buyers} have a purchase; "
            f"at least {least} with and {least} without are needed."
        )
