"""Buy-till-you-die models: who is still a customer, how often they will buy, what they will spend.

All are fitted by maximum likelihood on four numbers per customer: ``frequency``, ``recency``, ``T``
and ``monetary_value``. Each says in ``result_`` whether to believe it.
"""

from clv_pipeline.models.btyd.base import PurchaseModel
from clv_pipeline.models.btyd.bgbb import BGBB
from clv_pipeline.models.btyd.bgnbd import BGNBD, MBGNBD
from clv_pipeline.models.btyd.fitting import FitError, FitResult
from clv_pipeline.models.btyd.gammagamma import GammaGamma
from clv_pipeline.models.btyd.paretonbd import ParetoNBD
from clv_pipeline.models.btyd.summary import summarise
from clv_pipeline.models.btyd.value import PURCHASE_MODELS, BTYDValueModel

__all__ = [
    "BGBB",
    "BGNBD",
    "MBGNBD",
    "PURCHASE_MODELS",
    "BTYDValueModel",
    "FitError",
    "FitResult",
    "GammaGamma",
    "ParetoNBD",
    "PurchaseModel",
    "summarise",
]
