"""Guests warn of much; of warnings only those of affinet are errors here."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integrations" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings("error:.*affinet"), append=False)
            item.add_marker(pytest.mark.filterwarnings("ignore"), append=False)
