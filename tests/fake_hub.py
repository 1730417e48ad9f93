"""A hub on loopback that speaks the Hugging Face hub's protocol, as far as models and data sets need it."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

READER, WRITER = "hf_" + "reader9" * 4, "hf_" + "writer9" * 4
"""Tokens: one that may read what is private, and one that may write to what is under ``me/`` too."""


@dataclass
class Repo:
    """A repository: its commits by their names, and its branches."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        before = self.commits.get(self.branches.get(branch, ""), {})
        sha = hashlib.sha1(f"{branch} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = before | files
        self.branches[branch] = sha
        return sha

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        sha = self.branches.get(revision, revision)
        return (sha, self.commits[sha]) if sha in self.commits else None


@dataclass
class Hub:
    """What the server has, and was asked."""

    endpoint: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    large: str = ""
    """The end of the names of files that are to be uploaded as large ones."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and token of every request."""


class Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        url = urlsplit(self.path)
        self.hub.requests.append((self.command, unquote(url.path), self.token))
        try:
            if self.token not in (None, READER, WRITER):
                raise Refused(401, message="Invalid credentials in Authorization header")
            self._route([unquote(part) for part in url.path.split("/")[1:]], parse_qs(url.query), body)
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": refused.message}
            self._send(refused.status, json.dumps({"error": refused.message}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, answer: object, status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _route(self, path: list[str], query: dict[str, list[str]], body: bytes) -> None:
        match path:
            case ["api", "whoami-v2"]:
                if self.token is None:
                    raise Refused(401)
                self._json({"type": "user", "name": "me", "orgs": []})
            case ["api", "validate-yaml"]:
                yaml.safe_load(json.loads(body)["content"].split("---")[1])
                self._json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", kind, user, name, *rest] if kind in ("models", "datasets"):
                self._api(kind, f"{user}/{name}", rest, query, body)
            case ["lfs", oid]:
                self.hub.objects[oid] = body
                self._send(200, b"")
            case [user, name, "info", "lfs", "objects", "batch"]:
                self._batch(json.loads(body))
            case ["datasets", user, name, "resolve", *rest]:
                self._file(f"datasets/{user}/{name}", rest)
            case [user, name, "resolve", *rest]:
                self._file(f"{user}/{name}", rest)
            case _:
                raise Refused(404)

    def _create(self, wanted: dict[str, object]) -> None:
        name = f"{wanted['organization'] or 'me'}/{wanted['name']}"
        self._check_writer(name)
        url = f"{self.hub.endpoint}/{name}"
        if name in self.hub.repos:
            self._json({"url": url, "error": "You already created this model repo"}, 409)
        else:
            self.hub.repos[name] = Repo(
                private=wanted.get("visibility") == "private" or bool(wanted.get("private"))
            )
            self._json({"url": url})

    def _check_writer(self, name: str) -> None:
        if self.token is None:
            raise Refused(401)
        if self.token != WRITER or not name.startswith("me/"):
            raise Refused(403, message="You don't have the rights to create a model under this namespace")

    def _repo(self, name: str) -> Repo:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.token is None):
            raise Refused(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
        return repo

    def _files(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]]:
        found = repo.files(revision)
        if found is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    def _api(self, kind: str, name: str, rest: list[str], query: dict[str, list[str]], body: bytes) -> None:
        name = name if kind == "models" else f"datasets/{name}"
        repo = self._repo(name)
        match rest:
            case [] | ["revision", _]:
                sha, files = self._files(repo, rest[1] if rest else "main")
                siblings = [{"rfilename": path} for path in files]
                told = {
                    "id": name.removeprefix("datasets/"),
                    "sha": sha,
                    "siblings": siblings,
                    "private": repo.private,
                }
                if card := files.get("README.md"):
                    told["cardData"] = yaml.safe_load(card.decode().split("---")[1])
                self._json(told)
            case ["tree", revision, *folder]:
                self._tree(repo, revision, "/".join(folder), "true" in str(query.get("recursive")).lower())
            case ["paths-info", revision]:
                sha, files = self._files(repo, revision)
                wanted = parse_qs(body.decode())["paths"] if body[:1] != b"{" else json.loads(body)["paths"]
                self._json([_described(path, files[path]) for path in wanted if path in files])
            case ["branch", branch]:
                self._check_writer(name)
                repo.branches.setdefault(branch, repo.branches["main"])
                self._json({})
            case ["preupload", _]:
                self._check_writer(name)
                self._json({"files": [self._mode(file) for file in json.loads(body)["files"]]})
            case ["commit", branch]:
                self._check_writer(name)
                files = dict(map(self._committed, filter(None, map(json.loads, body.splitlines()[1:]))))
                sha = repo.commit(branch, files)
                self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})
            case _:
                raise Refused(404)

    def _mode(self, file: dict[str, object]) -> dict[str, object]:
        is_large = bool(self.hub.large) and str(file["path"]).endswith(self.hub.large)
        return {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}

    def _committed(self, line: dict[str, dict[str, str]]) -> tuple[str, bytes]:
        value = line["value"]
        return value["path"], base64.b64decode(value["content"]) if line[
            "key"
        ] == "file" else self.hub.objects[value["oid"]]

    def _batch(self, wanted: dict[str, list[dict[str, object]]]) -> None:
        upload = {
            each["oid"]: {"upload": {"href": f"{self.hub.endpoint}/lfs/{each['oid']}"}}
            for each in wanted["objects"]
        }
        objects = [
            {"oid": each["oid"], "size": each["size"], "actions": upload[each["oid"]]}
            for each in wanted["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _tree(self, repo: Repo, revision: str, folder: str, recursive: bool) -> None:
        _, files = self._files(repo, revision)
        inside = {
            path: content for path, content in files.items() if not folder or path.startswith(f"{folder}/")
        }
        start = len(folder) + 1 if folder else 0
        found = [
            _described(path, content)
            for path, content in inside.items()
            if recursive or "/" not in path[start:]
        ]
        folders = dict.fromkeys(path[: path.index("/", start)] for path in inside if "/" in path[start:])
        found += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
        if folder and not inside:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist")
        self._json(found)

    def _file(self, name: str, rest: list[str]) -> None:
        repo = self._repo(name)
        if repo.gated:
            raise Refused(403 if self.token else 401, "GatedRepo", f"Access to model {name} is restricted")
        revision, path = rest[0], "/".join(rest[1:])
        sha, files = self._files(repo, revision)
        commit = {"X-Repo-Commit": sha}
        if path not in files:
            self._send(
                404, b"", commit | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
            )
            return
        content, status, headers = files[path], 200, {"ETag": f'"{hashlib.sha1(files[path]).hexdigest()}"'}
        if wanted := self.headers.get("Range"):
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            last = min(int(end or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            content, status = content[int(start) : last + 1], 206
        self._send(status, content, commit | headers)


def _described(path: str, content: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a hub until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
