"""What Python adds to the landed rows before dbt runs: public holidays, and scores of texts."""

from clv_pipeline.signals.holidays import prepare_holidays
from clv_pipeline.signals.texts import prepare_texts

__all__ = ["prepare_holidays", "prepare_texts"]
