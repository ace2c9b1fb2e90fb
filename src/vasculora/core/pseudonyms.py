"""Keyed pseudonyms, for names that must not be written.

File names of angiograms often are patients' names. A plain hash of one is no protection, because
names can be tried one after the other; so it is keyed (HMAC-SHA256), and the key stays in the
user's own config folder. The same user gets the same pseudonyms in every run, and nobody else can
compute them.
"""

import hashlib
import hmac
import os
import secrets
import unicodedata
from pathlib import Path

from vasculora.core.runtime import config_dir

_KEY_BYTES = 32
_NUM_DIGITS = 10


def load_key() -> bytes:
    """Return the user's key, made on first use.

    Raises:
        ValueError: If the key file is damaged.
        OSError: If it can be neither read nor made.
    """
    path = config_dir() / "pseudonym.key"
    try:
        if not path.exists():
            _create_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise type(error)(
            f"{path}: the key that hides patients' names can be neither read nor made: "
            f"{error.strerror or error}. Point XDG_CONFIG_HOME at a folder you may write to."
        ) from error
    if len(key) != _KEY_BYTES:
        raise ValueError(
            f"{path}: holds {len(key)} bytes instead of {_KEY_BYTES}, so it is damaged. Delete it "
            "to get a new key (and other pseudonyms)."
        )
    return key


def pseudonym(name: str, key: bytes, prefix: str) -> str:
    """Return the pseudonym of a private name, like `case_1f3a09c2d4`.

    Args:
        name: The private name. Composed and decomposed letters (as macOS writes them) count as the
            same.
        key: What `load_key` returned.
        prefix: Put before it: `case_` or `group_`. Equal names with different prefixes get
            unrelated pseudonyms.
    """
    message = prefix + unicodedata.normalize("NFC", name)
    digest = hmac.new(key, message.encode("utf-8", "surrogateescape"), hashlib.sha256)
    return prefix + digest.hexdigest()[:_NUM_DIGITS]


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        # Several processes may start at once: the link fails for all but the first, whose key they
        # then read.
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink(missing_ok=True)
