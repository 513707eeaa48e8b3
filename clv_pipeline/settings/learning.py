"""Settings of what is learned, and of how it is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from clv_pipeline.settings.base import Section, Share

# Retail e-commerce in the United States, not adjusted for season: U.S. Census Bureau, Quarterly
# Retail E-Commerce Sales (series ECOMNSA), 2010 to 2019. Each quarter over its centred mean of four
# (geometric mean of ten years, standard deviation .014 at most). In millions of dollars the first
# and the last year were 37,059 38,467 40,075 54,320 and 127,888 138,956 145,474 185,700.
QUARTERS = (0.929, 0.939, 0.928, 1.204)
RETAIL_SEASON = tuple(index for index in QUARTERS for _ in range(3))


class NetworkSettings(Section):
    """How one neural model is fitted; what is unset is its own choice."""

    epochs: int | None = Field(default=None, ge=1, le=1_000, description="Passes over the data.")
    width: int | None = Field(default=None, ge=2, le=1_024, description="Of each hidden layer.")
    step: float | None = Field(default=None, gt=0, le=1, description="Adam's step length.")


class ModelSettings(Section):
    """How models are fitted."""

    seed: int = Field(default=20240229, description="Of every random draw.")
    threads: int = Field(
        default=0, ge=0, description="Threads of XGBoost; 0: as many as there are cores."
    )
    max_panel_rows: int = Field(
        default=2_000_000,
        ge=10_000,
        description="Most rows of a training panel; of more, all cutoffs' rows of one of 2, 4, 8, "
        "... customers, drawn by their ids alike. Cutoffs that are only learned from are built of "
        "these alone.",
    )
    max_training_rows: int = Field(
        default=40_000,
        ge=1_000,
        description="Most rows of a panel that boosted models see; of more, a sample stratified by "
        "cutoff and value, each row weighted by what it stands for.",
    )
    trees: int = Field(default=60, ge=1, le=5_000, description="Trees of each boosted model.")
    candidates: Literal["standard", "full"] = Field(
        default="standard",
        description="full: slow comparisons in every backtest fold, not in one alone.",
    )
    clusters: int = Field(default=6, ge=2, le=20, description="Clusters of behaviour by K-means.")
    depth: int = Field(default=4, ge=1, le=12, description="Of each tree of the boosted models.")
    learning_rate: float = Field(
        default=0.13, gt=0, le=1, description="Of the boosted models. `clv tune` searches it."
    )
    neural: bool = Field(
        default=False,
        description="Compare neural models, too. They need PyTorch: the extra `neural`.",
    )
    networks: dict[Literal["ziln", "gru"], NetworkSettings] = Field(
        default={},
        description="By neural model, as `clv tune --candidate ziln` finds them: "
        "`networks.ziln = { epochs = 40, width = 64, step = 0.001 }`.",
    )
    left_out_features: tuple[str, ...] = Field(
        default=(), description="Features that models do not read, as `clv tune` may propose."
    )
    giant_multiple: float = Field(
        default=20.0,
        ge=1,
        description="Labels above so many times the 99.5 % quantile of their window count as that "
        "much in training. Predictions are never cut.",
    )
    season_index: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=RETAIL_SEASON,
        min_length=12,
        max_length=12,
        description="How strong each month is thought to be, January first, until the shop's own "
        "history says it. The default is online retail's, by the U.S. Census Bureau (2010-2019); "
        "twelve equal figures turn it off.",
    )


class EvaluationSettings(Section):
    """What a contact costs and brings, for the measures in money of each backtest."""

    contact_cost: float = Field(
        default=1.0, ge=0, description="Of contacting one customer, reporting currency."
    )
    margin_share: Share = Field(
        default=0.3,
        description="Share of value left after variable cost; not applied to a value that is a "
        "contribution margin.",
    )
    lift_share: Share = Field(
        default=0.1, description="Share of a customer's value that a contact adds to it."
    )
    save_rate: Share = Field(
        default=0.1, description="Share of customers about to leave whom a contact keeps."
    )
    budget_customers: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(100, 1000),
        max_length=5,
        description="Numbers of customers that a budget reaches, for profit and value captured.",
    )
