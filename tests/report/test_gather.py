"""What a run says of the software that it was made with."""

import pytest

from permeation.report import gather


def test_versions_are_the_same_whichever_build_of_torch_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("", "+cpu", "+cu128"):
        monkeypatch.setattr(gather, "version", lambda name, label=label: "2.13.0" + label * (name == "torch"))
        assert {gather.versions()[name] for name in gather.PACKAGES} == {"2.13.0"}
    assert list(gather.versions()) == ["python", *gather.PACKAGES]
