"""Twisted: callbacks without a context of their own. twisted.web at both ends, inlineCallbacks, a connection pool."""

import argparse

from twisted.internet import defer, endpoints, reactor
from twisted.web import client, resource, server

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--backend", required=True)
options = parser.parse_args()
pool = client.HTTPConnectionPool(reactor)
pool.maxPersistentPerHost = 60
agent = client.Agent(reactor, pool=pool)


@defer.inlineCallbacks
def call(path: str):
    response = yield agent.request(b"GET", f"http://{options.backend}{path}".encode())
    yield client.readBody(response)


@defer.inlineCallbacks
def answer(request: server.Request):
    token, count = request.path.decode()[3:], int(request.args.get(b"k", [b"1"])[0])
    paths = [f"/b/{token}/{i}" for i in range(count)]
    if request.args.get(b"par") == [b"1"]:
        yield defer.gatherResults([call(path) for path in paths])
    else:
        for path in paths:
            yield call(path)
    request.setHeader(b"content-length", b"2")
    request.write(b"ok")
    request.finish()


class Root(resource.Resource):
    isLeaf = True

    def render_GET(self, request: server.Request):
        answer(request)
        return server.NOT_DONE_YET


endpoints.TCP4ServerEndpoint(reactor, options.port, interface="127.0.0.1").listen(server.Site(Root()))
reactor.run()
