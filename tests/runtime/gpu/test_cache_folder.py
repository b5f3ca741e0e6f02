"""Where compiled things are kept."""

from pathlib import Path

import pytest

from cmrsr.runtime.gpu.cache_folder import cache_folder


def test_the_folder_is_the_users_unless_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CMRSR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("plans") == tmp_path / "xdg" / "cmrsr" / "plans"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("plans") == tmp_path / "home" / ".cache" / "cmrsr" / "plans"
    monkeypatch.setenv("CMRSR_CACHE", str(tmp_path / "named"))
    folder = cache_folder("plans")
    assert folder == tmp_path / "named" / "plans"
    assert folder.is_dir()


def test_an_empty_name_switches_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMRSR_CACHE", "")
    assert cache_folder("plans") is None


def test_where_none_can_be_made_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CMRSR_CACHE", str(tmp_path / "file"))
    assert cache_folder("plans") is None
