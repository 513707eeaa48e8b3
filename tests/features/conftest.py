from __future__ import annotations

import pytest

from clv_pipeline.settings import Settings, build_settings
from tests.features.building import MAX_AGE, ZONE


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of the one home; each module fills it anew."""
    return build_settings(
        tmp_path_factory.mktemp("features"),
        {
            "project": {"time_zone": ZONE},
            "value": {"horizons": [30]},
            "features": {"max_age_days": MAX_AGE},
        },
    )
