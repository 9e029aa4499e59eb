"""Flask with one requests.Session for all threads: for any WSGI server. BACKEND=HOST:PORT.

CLIENT: requests, or pycurl. POOL=1: calls run in a ThreadPoolExecutor while the request's thread waits.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import requests
from flask import Flask, request
from requests.adapters import HTTPAdapter

BACKEND = os.environ["BACKEND"]
application = Flask(__name__)
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=40))
executor = ThreadPoolExecutor(20)


def fetch(path: str) -> None:
    session.get(f"http://{BACKEND}{path}", timeout=20).raise_for_status()


def fetch_pycurl(path: str) -> None:
    import pycurl

    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, f"http://{BACKEND}{path}")
    handle.setopt(pycurl.WRITEFUNCTION, lambda data: None)
    handle.perform()
    handle.close()


call = fetch_pycurl if os.environ.get("CLIENT") == "pycurl" else fetch


@application.get("/<any(r,b):_>/<path:token>")
def answer(_: str, token: str) -> str:
    paths = [f"/b/{token}/{i}" for i in range(int(request.args.get("k", "1")))]
    if os.environ.get("POOL"):
        list(executor.map(call, paths))
    elif request.args.get("par") == "1" and os.environ.get("GREENLETS"):
        import gevent

        gevent.joinall([gevent.spawn(call, path) for path in paths], raise_error=True)
    else:
        for path in paths:
            call(path)
    return "ok"


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--server", choices=("waitress", "werkzeug"))
    options = parser.parse_args()
    if options.server == "waitress":
        import waitress

        waitress.serve(application, host="127.0.0.1", port=options.port, threads=options.threads)
    else:
        from werkzeug.serving import WSGIRequestHandler, run_simple

        WSGIRequestHandler.protocol_version = "HTTP/1.1"
        run_simple("127.0.0.1", options.port, application, threaded=True)
