"""From `hf://ORG/NAME` to a folder on this disk: the only place that may use the network.

The prefix is how the user allows it: a plain name is a folder and nothing else. Of a repository
only settings, tokenizer and weights are taken, by a list of what is read here; its programs stay
where they are. Files of PyTorch are fetched only where there are no safetensors, so nothing is
loaded twice.
"""

import re
from collections.abc import Sequence
from pathlib import Path

PREFIX = "hf://"

_NAME = re.compile(
    r"hf://(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w-][\w.-]*(/[\w-][\w.-]*)*))?",
    re.ASCII,
)
_SETTINGS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
)
_SAFETENSORS = ("model.safetensors.index.json", "*.safetensors")
_TORCH = ("pytorch_model.bin.index.json", "pytorch_model*.bin")
_SUBFOLDERS = "*/*"  # a pattern of a name matches in folders too, and none of them is read
_BY_HAND = "download it elsewhere and give its folder"


def fetch(name: str, *, cache_dir: Path | None = None) -> Path:
    """Return the folder of a checkpoint of the Hugging Face Hub, downloaded where it is not yet.

    Args:
        name: `hf://ORG/NAME`, or `hf://ORG/NAME@REVISION` (a branch, a tag or a commit).
        cache_dir: Where downloads are kept; None for Hugging Face's own place.

    Raises:
        ValueError: If the name is none, or the hub knows no such repository or revision, or does
            not give it to this user.
        OSError: If the hub cannot be reached, or the files cannot be written.
    """
    words = _NAME.fullmatch(name)
    if words is None:
        raise ValueError(
            f"{name!r} is no name of a repository. Expected hf://ORG/NAME or hf://ORG/NAME@REVISION."
        )
    repository, revision = words["repository"], words["revision"]
    folder = _snapshot(repository, revision, (*_SETTINGS, *_SAFETENSORS), cache_dir)
    if not any(folder.glob("*.safetensors")):
        folder = _snapshot(repository, revision, (*_SETTINGS, *_TORCH), cache_dir)
    return folder


def _snapshot(
    repository: str, revision: str | None, patterns: Sequence[str], cache_dir: Path | None
) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=_SUBFOLDERS,
            cache_dir=cache_dir,
        )
    except Exception as cause:
        name = PREFIX + repository + (f"@{revision}" if revision else "")
        raise _refusal(name, cause) or _failure(name, cause) from cause
    return Path(folder)


def _refusal(name: str, cause: Exception) -> ValueError | None:
    """Return what to tell where the hub answered and said no; else None."""
    from huggingface_hub import errors

    said = (
        # A gated repository's error is also a missing one's, so the order counts.
        (
            errors.GatedRepoError,
            "is given only to who accepts its terms. Accept them on its page at huggingface.co and "
            "log in with `hf auth login`.",
        ),
        (
            errors.RepositoryNotFoundError,
            "is not on the Hugging Face Hub, or is private. Check its name; for a private one log "
            "in with `hf auth login`.",
        ),
        (
            errors.RevisionNotFoundError,
            "has no such branch, tag or commit. Leave the part from @ on out for the newest.",
        ),
        (errors.HFValidationError, "is no name of a repository. Expected hf://ORG/NAME."),
    )
    told = next((text for kind, text in said if isinstance(cause, kind)), None)
    return None if told is None else ValueError(f"{name} {told}")


def _failure(name: str, cause: Exception) -> OSError:
    """Return what to tell where the hub was not asked, not reached, or its files not written."""
    from huggingface_hub import errors

    reason = cause.__cause__ if isinstance(cause.__cause__, Exception) else cause
    if isinstance(reason, errors.OfflineModeIsEnabled):
        part = " in full" if isinstance(cause, errors.IncompleteSnapshotError) else ""
        return FileNotFoundError(
            f"{name} is not on this disk{part}, and HF_HUB_OFFLINE forbids asking the Hugging Face "
            f"Hub for it. Unset HF_HUB_OFFLINE, or {_BY_HAND}."
        )
    if isinstance(cause, OSError) and cause.errno is not None:
        return OSError(
            f"{name}: what was downloaded cannot be written: {cause}. Free some space there, or "
            "set HF_HOME to a folder you may write to."
        )
    words = str(reason).strip().split("\n")[0] or type(reason).__name__
    return ConnectionError(
        f"{name}: the Hugging Face Hub cannot be reached, or broke off: {words}. Check the "
        f"connection (behind a proxy, HTTPS_PROXY) and try again, or {_BY_HAND}."
    )
