"""A simulated shop: every input of the contract, by stated laws, with the truth beside it."""

from clv_pipeline.ingest.shop.benchmark import write_orders_parquet
from clv_pipeline.ingest.shop.parameters import DEFAULT_CUSTOMERS, DEFAULT_DAYS, ShopParameters
from clv_pipeline.ingest.shop.write import Shop, write_shop

__all__ = [
    "DEFAULT_CUSTOMERS",
    "DEFAULT_DAYS",
    "Shop",
    "ShopParameters",
    "write_orders_parquet",
    "write_shop",
]
