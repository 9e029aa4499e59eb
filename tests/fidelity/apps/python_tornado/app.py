"""Tornado: its server and its AsyncHTTPClient, at most 200 calls at once."""

import argparse
import asyncio

import tornado.httpclient
import tornado.web

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--backend", required=True)
options = parser.parse_args()


class Answer(tornado.web.RequestHandler):
    async def get(self) -> None:
        client = tornado.httpclient.AsyncHTTPClient()
        token, count = self.request.path[3:], int(self.get_argument("k", "1"))
        paths = [f"http://{options.backend}/b/{token}/{i}" for i in range(count)]
        if self.get_argument("par", "0") == "1":
            await asyncio.gather(*(client.fetch(path) for path in paths))
        else:
            for path in paths:
                await client.fetch(path)
        self.write("ok")


async def main() -> None:
    tornado.httpclient.AsyncHTTPClient.configure(None, max_clients=200)
    tornado.web.Application([(r"/.*", Answer)], log_function=lambda handler: None).listen(options.port, "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
