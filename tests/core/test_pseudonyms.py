import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vasculora.core.pseudonyms import load_key, pseudonym

KEY = bytes(range(32))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "vasculora"


def test_the_key_is_made_once_and_is_its_owners(config: Path) -> None:
    key = load_key()
    assert len(key) == 32
    assert load_key() == key
    assert [path.name for path in config.iterdir()] == ["pseudonym.key"]
    assert stat.S_IMODE((config / "pseudonym.key").stat().st_mode) == 0o600


def test_processes_that_start_at_once_share_one_key(config: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: load_key(), range(64)))
    assert len(set(keys)) == 1
    assert [path.name for path in config.iterdir()] == ["pseudonym.key"]


def test_a_damaged_key_is_refused(config: Path) -> None:
    config.mkdir()
    (config / "pseudonym.key").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"pseudonym\.key: holds 5 bytes instead of 32"):
        load_key()


def test_a_config_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match="can be neither read nor made"):
        load_key()


def test_a_pseudonym_is_a_keyed_hash() -> None:
    digest = hmac.new(KEY, b"case_Zhang San(01)", hashlib.sha256).hexdigest()
    assert pseudonym("Zhang San(01)", KEY, "case_") == "case_" + digest[:10]
    assert pseudonym("Zhang San(01)", bytes(32), "case_") != "case_" + digest[:10]
    assert pseudonym("Zhang San(01)", KEY, "group_")[6:] != digest[:10]


def test_letters_written_in_two_ways_are_one_name() -> None:
    assert pseudonym("M\u00fcller(1)", KEY, "case_") == pseudonym("Mu\u0308ller(1)", KEY, "case_")


def test_names_in_another_encoding_have_pseudonyms_too() -> None:
    assert pseudonym("\udcd5\udcc5(1)", KEY, "case_").startswith("case_")
