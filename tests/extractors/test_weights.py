"""A weights file is complete and in the cache, or not there; an error says in one line where to get and put it."""

import hashlib
import http.server
import pathlib
import stat
import threading

import pytest

from genmodels.errors import DataError
from genmodels.extractors.weights import WeightsFile, check, find, folder

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """What goes wrong is the path that is asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        getattr(self, self.path.strip("/"))()

    def answer(self, body, length=None, status=200, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self):
        self.answer(CONTENT)

    def moved(self):
        self.answer(b"", status=302, Location="/good")

    def other(self):
        self.answer(CONTENT[:-1] + b"?")

    def short(self):
        self.answer(CONTENT[:5000])

    def long(self):
        self.answer(CONTENT + b"?")

    def empty(self):
        self.answer(b"")

    def cut(self):
        self.answer(CONTENT[:5000], length=len(CONTENT))

    def cut_chunk(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"2800\r\n" + CONTENT[:5000])

    def stalled(self):
        self.answer(CONTENT[:5000], length=len(CONTENT))
        self.server.done.wait(20)

    def missing(self):
        self.send_error(404)

    def broken(self):
        self.send_error(500)

    def garbage(self):
        self.wfile.write(b"no HTTP at all\r\n\r\n")

    def nothing(self):
        self.close_connection = True

    def log_message(self, *arguments):
        pass


GOOD = ("good", "moved")
BAD = ("other", "short", "long", "empty", "cut", "cut_chunk", "stalled", "missing", "broken", "garbage", "nothing")


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.done = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GENMODELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "weights"


@pytest.fixture
def wanted(server):
    server.asked.clear()
    return lambda what: WeightsFile("w.bin", f"http://127.0.0.1:{server.server_port}/{what}", SHA256, len(CONTENT))


def refusal(function, *arguments, **options):
    with pytest.raises(DataError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("what", GOOD)
def test_a_good_download_is_put_in_its_place_and_not_downloaded_again(cache, server, wanted, what):
    path = find(wanted(what))
    asked = list(server.asked)
    assert (path, path.read_bytes()) == (cache / "w.bin", CONTENT)
    assert list(cache.iterdir()) == [path]
    assert (find(wanted(what)), server.asked) == (path, asked)


def test_other_users_may_read_a_downloaded_file(cache, wanted):
    path = find(wanted("good"))
    (cache / "usual").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((cache / "usual").stat().st_mode)


@pytest.mark.parametrize("what", BAD)
def test_a_bad_download_leaves_nothing_and_says_what_to_do(cache, wanted, what):
    file = wanted(what)
    message = refusal(find, file, timeout=0.3 if what == "stalled" else 20)
    assert ("timed out" in message) == (what == "stalled")
    assert not list(cache.iterdir())
    assert all(word in message for word in (file.name, file.url, str(cache / "w.bin")))
    assert ".download" not in message


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/w.bin", "file:///no/such/w.bin"])
def test_a_missing_server_is_reported(cache, url):
    message = refusal(find, WeightsFile("w.bin", url, SHA256, len(CONTENT)))
    assert url in message
    assert not list(cache.iterdir())


def test_a_cache_folder_that_cannot_be_created_is_reported(cache, wanted):
    cache.parent.write_text("a file")
    file = wanted("good")
    assert file.url in refusal(find, file)


@pytest.mark.parametrize("content", [CONTENT[:5000], CONTENT[:-1] + b"?", b""])
def test_a_damaged_file_is_refused_and_left_alone(cache, server, wanted, content):
    cache.mkdir(parents=True)
    (cache / "w.bin").write_bytes(content)
    message = refusal(find, wanted("good"))
    assert all(word in message for word in (str(cache / "w.bin"), SHA256, hashlib.sha256(content).hexdigest()))
    assert (cache / "w.bin").read_bytes() == content
    assert not server.asked


def test_a_file_by_path_is_known_by_its_hash(tmp_path, wanted):
    path = tmp_path / "w.bin"
    assert str(path) in refusal(check, path, wanted("good"))
    path.write_bytes(CONTENT[1:])
    assert "10,239 of 10,240 bytes" in refusal(check, path, wanted("good"))
    path.write_bytes(CONTENT)
    check(path, wanted("good"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"GENMODELS_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a/weights"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/genmodels/weights"),
        ({"GENMODELS_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/genmodels/weights"),
    ],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, variables, expected):
    for name in ("GENMODELS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert folder() == pathlib.Path(expected)
