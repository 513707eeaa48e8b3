"""Campaigns of the simulated shop, and which of its accounts are merged."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from clv_pipeline.ingest.shop.columns import (
    Clock,
    account_ids,
    coded_text,
    money,
    numbered_ids,
)
from clv_pipeline.ingest.shop.market import random_stream
from clv_pipeline.ingest.shop.orders import Sales
from clv_pipeline.ingest.shop.parameters import ShopParameters
from clv_pipeline.ingest.shop.people import People
from clv_pipeline.ingest.shop.process import BoolArray, campaign_days

_MAIL_COST_CENTS = 5


def exposure_rows(
    people: People, sales: Sales, clock: Clock, parameters: ShopParameters, days: int
) -> pa.Table:
    """Return campaign_exposures: everybody drawn, with the arm that chance gave them."""
    campaign, customer = np.nonzero(sales.selected.T)
    arm = sales.selected[customer, campaign].astype(np.int64) - 1
    day = campaign_days(parameters, days)[campaign]
    second = np.full(day.size, 8 * 3600)
    return pa.table(
        {
            "user_id": account_ids(people.account(customer, day)),
            "ts": clock.instants(day, second),
            "campaign_id": numbered_ids("C", campaign + 1, 3),
            "arm": coded_text(("control", "treated"), arm),
            "cost": money(arm * _MAIL_COST_CENTS),
            "ingested_at": clock.instants(day, second + 60),
        }
    )


def campaign_rows(clock: Clock, parameters: ShopParameters, days: int) -> pa.Table:
    """Return truth/campaigns.parquet: the calendar, the shares, and the mean effect."""
    calendar = campaign_days(parameters, days)
    share = parameters.response_a / (parameters.response_a + parameters.response_b)
    return pa.table(
        {
            "campaign_id": numbered_ids("C", np.arange(calendar.size) + 1, 3),
            "campaign_date": clock.dates(calendar),
            "share_drawn": pa.array(np.full(calendar.size, parameters.campaign_share)),
            "share_treated": pa.array(np.full(calendar.size, parameters.treated_share)),
            "mean_response_if_alive": pa.array(
                np.full(calendar.size, share * parameters.persuadable_share)
            ),
        }
    )


def merge_rows(
    seed: int, chunk: int, people: People, clock: Clock, parameters: ShopParameters, days: int
) -> tuple[pa.Table, BoolArray]:
    """Return account_merges, and which buyers were merged by mistake and split again."""
    rng = random_stream(seed, "merges", chunk)
    merged = np.flatnonzero(people.merge_day >= 0)
    free = np.flatnonzero(people.merge_day[: people.count_buyers] < 0)
    pairs = rng.permutation(free)[: 2 * round(parameters.split_share * people.count_buyers)]
    old, new = pairs[::2], pairs[1::2]
    begin = np.maximum(people.signup_day[old], people.signup_day[new])
    begin = np.maximum(begin, 0) + rng.integers(1, 60, old.size)
    end = begin + rng.integers(5, 30, old.size)
    fine = end < days
    old, new, begin, end = old[fine], new[fine], begin[fine], end[fine]
    who = np.concatenate([people.number[merged] + 1, people.number[old], people.number[old]])
    owner = np.concatenate([people.number[merged], people.number[new], people.number[old]])
    day = np.concatenate([people.merge_day[merged], begin, end])
    order = np.lexsort((who, day))
    was_split = np.zeros(people.count_buyers, dtype=bool)
    was_split[old] = True
    table = pa.table(
        {
            "old_user_id": account_ids(who[order]),
            "new_user_id": account_ids(owner[order]),
            "ts": clock.instants(day[order], np.full(day.size, 43_200)),
        }
    )
    return table, was_split
