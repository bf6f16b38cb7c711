"""`--serve`: loopback, read only, two addresses, nothing new is not sent again."""

import http.client
import threading

import pytest

from pipeline.errors import InputError
from pipeline.report.compare import serve


@pytest.fixture
def data():
    return {"sweep": "demo", "made": "now", "trials": [], "variants": [], "ladder": None}


@pytest.fixture
def port(data, monkeypatch):
    monkeypatch.setattr(serve, "FRESH_S", 0.0)
    server = serve.make_server(lambda: dict(data))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request(method, path, headers=headers)
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    return reply, body


def test_serves_the_page_and_the_data(port):
    reply, body = ask(port)
    assert reply.status == 200
    assert b'data-live="true"' in body
    assert b"connect-src 'self'" in body
    reply, body = ask(port, "/data.json")
    assert (reply.status, body[:1]) == (200, b"{")


def test_what_did_not_change_is_not_sent_again(port, data):
    tag = ask(port, "/data.json")[0].headers["ETag"]
    data["made"] = "later"
    assert ask(port, "/data.json", **{"If-None-Match": tag})[0].status == 304
    data["trials"] = [{"id": "baseline/0"}]
    assert ask(port, "/data.json", **{"If-None-Match": tag})[0].status == 200


@pytest.mark.parametrize("path", ["/../runs", "/etc/passwd", "/data.json/", "/?x"])
def test_there_is_nothing_else_to_read(port, path):
    assert ask(port, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(port, method):
    assert ask(port, "/", method)[0].status == 501


def test_a_page_of_another_site_is_refused(port):
    assert ask(port, Host="evil.example")[0].status == 421


def test_listens_on_this_machine_only(data):
    with serve.make_server(lambda: data) as server:
        assert server.server_address[0] == "127.0.0.1"
        assert serve.address(server).startswith("http://127.0.0.1:")


def test_a_taken_port_is_said(port, data):
    with pytest.raises(InputError, match="--port"):
        serve.make_server(lambda: data, port=port)
