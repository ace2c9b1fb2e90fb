import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from vasculora.model.hub import fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SETTINGS = {"config.json": b"{}", "tokenizer.json": b"{}", "modeling_sa2va_chat.py": b"boom()"}
REFUSALS = {
    "gated": (403, "GatedRepo"),
    "missing": (404, "RepoNotFound"),
    "old": (404, "RevisionNotFound"),
    "down": (500, ""),
}
CLEAR = {
    "gated": (ValueError, "hf://org/gated is given only to who accepts its terms"),
    "missing": (ValueError, "hf://org/missing is not on the Hugging Face Hub, or is private"),
    "old": (ValueError, "hf://org/old has no such branch"),
    "down": (ConnectionError, "hf://org/down: the Hugging Face Hub cannot be reached"),
}


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the hub does for the repositories in `files`; notes what was asked of it."""

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        self.asked.append(path)
        _, _, after_api = path.partition("api/models/org/")
        name = (after_api or path.partition("org/")[2]).split("/")[0]
        if name in REFUSALS:
            self.answer(REFUSALS[name][0], b"", {"X-Error-Code": REFUSALS[name][1]})
        elif "/tree/" in path:
            tree = [
                {"type": "file", "path": path, "size": len(data), "oid": etag(data)}
                for path, data in self.files[name].items()
            ]
            self.answer(200, json.dumps(tree).encode())
        elif after_api:
            info = {"id": f"org/{name}", "sha": COMMIT, "siblings": []}
            self.answer(200, json.dumps(info).encode())
        else:
            data = self.files.get(name, {}).get(path.split(f"{COMMIT}/")[-1], b"")
            self.answer(200, data, {"ETag": f'"{etag(data)}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status, data, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *words):
        pass


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine that stands in for the real one."""
    hub = type("Hub", (FakeHub,), {"files": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), hub)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    _ask(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    yield hub
    server.shutdown()
    server.server_close()


def _ask(monkeypatch, address):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def etag(data):
    return hashlib.sha1(data).hexdigest()


def lay_out(cache, name, *, revision="main"):
    """Write a folder as Hugging Face's cache has it."""
    home = cache / f"models--org--{name}"
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (home / "refs" / revision).parent.mkdir(parents=True)
    (home / "refs" / revision).write_text(COMMIT)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"x")
    return snapshot


@pytest.mark.parametrize("end", ["", "@v1.0", "@refs/pr/7", f"@{COMMIT}"])
def test_what_is_in_the_cache_needs_no_network(cache, offline, end):
    snapshot = lay_out(cache, "there", revision=end.removeprefix("@") or "main")
    assert fetch(f"hf://org/there{end}", cache_dir=cache) == snapshot


def test_what_is_not_in_the_cache_is_told_when_offline(cache, offline):
    with pytest.raises(FileNotFoundError, match="hf://org/there is not on this disk, and HF_HUB_O"):
        fetch("hf://org/there", cache_dir=cache)


@pytest.mark.parametrize(
    "name",
    [
        "org/name",
        "hf://name",
        "hf://org/name/more",
        "hf://../name",
        "hf://org/..",
        "hf://org/name@",
        "hf://org/name@../../x",
        "hf://org/name@a/../b",
        "hf://org/name\n",
        "hf:///etc/passwd",
    ],
)
def test_only_names_of_repositories_are_asked_for(cache, hub, name):
    with pytest.raises(ValueError, match=r"is no name of a repository. Expected hf://ORG/NAME"):
        fetch(name, cache_dir=cache)
    assert hub.asked == []
    assert not cache.exists()


def test_programs_folders_and_doubled_weights_stay_where_they_are(cache, hub):
    weights = {"model.safetensors": b"weights", "pytorch_model.bin": b"the same"}
    others = {"optimizer.pt": b"x", "sub/model.safetensors": b"x", "README.md": b"x"}
    hub.files["both"] = SETTINGS | weights | others
    folder = fetch("hf://org/both", cache_dir=cache)
    assert contents(folder) == {
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "model.safetensors": b"weights",
    }
    assert not any(path.endswith((".py", ".bin")) for path in hub.asked)


def test_files_of_pytorch_are_fetched_where_there_is_nothing_else(cache, hub):
    index = {"pytorch_model.bin.index.json": b"{}", "pytorch_model-00001-of-00001.bin": b"old"}
    hub.files["old_way"] = SETTINGS | index | {"training_args.bin": b"x"}
    folder = fetch("hf://org/old_way", cache_dir=cache)
    assert set(contents(folder)) == {"config.json", "tokenizer.json", *index}


def contents(folder: Path):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_half_a_download_is_told_when_offline(cache, hub, monkeypatch):
    hub.files["half"] = SETTINGS | {"model.safetensors": b"weights"}
    folder = fetch("hf://org/half", cache_dir=cache)
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="is not on this disk in full, and HF_HUB_OFFLINE"):
        fetch("hf://org/half", cache_dir=cache)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_told_with_its_cure(cache, hub, name):
    error, words = CLEAR[name]
    with pytest.raises(error, match=words):
        fetch(f"hf://org/{name}", cache_dir=cache)


def test_a_hub_out_of_reach_is_told(cache, hub, monkeypatch):
    _ask(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(
        ConnectionError, match=r"cannot be reached, or broke off: .* give its folder"
    ):
        fetch("hf://org/there", cache_dir=cache)


def test_a_cache_that_cannot_be_written_is_told(cache, hub):
    cache.write_text("a file where the folder should be")
    hub.files["there"] = SETTINGS
    with pytest.raises(OSError, match="hf://org/there: what was downloaded cannot be written"):
        fetch("hf://org/there", cache_dir=cache)
