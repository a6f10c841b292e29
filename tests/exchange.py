"""A small exchange on the loopback: Binance's protocol, real sockets, and bad days on demand."""

import contextlib
import http.server
import json
import threading
import urllib.parse

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

SYMBOL = "BTCUSDT"


class Exchange:
    """One pair, whose book moves with every call of `move`. Clients see each move from when they came on."""

    def __init__(self):
        self.seq = 1000
        self.bids = {100.0 - i: 1.0 + i for i in range(10)}
        self.asks = {101.0 + i: 2.0 + i for i in range(10)}
        self.trade_id = 0
        self.clients, self.paths, self.refused = [], [], 0
        self.came = 0
        """Connections so far."""
        self.answers, self.broken = 0, 0
        """Requests answered, and how many are still to be refused with status 503."""
        self.garbled = 0
        """Answers that are still to be no JSON."""
        self._lock = threading.Lock()
        self._sockets = serve(self._client, "127.0.0.1", 0)
        self.ws = f"ws://127.0.0.1:{self._sockets.socket.getsockname()[1]}"
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.rest = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._threads = [
            threading.Thread(target=s.serve_forever, daemon=True) for s in (self._sockets, self._http)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def endpoints(self):
        """What to say instead of the venue's own addresses."""
        return {"wss://stream.binance.com:9443": self.ws, "https://api.binance.com/api/v3": self.rest}

    def _client(self, socket):
        with self._lock:
            self.clients.append(socket)
            self.paths.append(urllib.parse.unquote(socket.request.path))
            self.came += 1
        with contextlib.suppress(ConnectionClosed):
            while True:
                socket.recv()  # subscriptions; Binance is told by the path what is wanted: nothing comes

    def _handler(self):
        exchange = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if exchange.broken:
                    exchange.broken -= 1
                    self.send_error(503)
                    return
                body = json.dumps(exchange.answer(self.path)).encode()
                if exchange.garbled:
                    exchange.garbled, body = exchange.garbled - 1, body[:-1]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, path):
        self.answers += 1
        if "/trades?" in path:
            return [
                {"id": n, "price": "100.50", "qty": "0.125", "time": n, "isBuyerMaker": False}
                for n in range(1, self.trade_id + 1)
            ]
        if path.endswith("exchangeInfo"):
            filters = [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}]
            listed = {"symbol": SYMBOL, "baseAsset": "BTC", "quoteAsset": "USDT", "filters": filters}
            return {"symbols": [listed]}
        with self._lock:
            sides = [[[f"{p:.2f}", f"{s:.3f}"] for p, s in half.items()] for half in (self.bids, self.asks)]
            return {"lastUpdateId": self.seq, "bids": sides[0], "asks": sides[1]}

    def move(self, *, hidden=False):
        """Change a level and say so, unless it is hidden: a message that got lost."""
        with self._lock:
            self.seq += 1
            size = float(self.seq % 7)
            self.bids[100.0] = 1.0 + size
            data = {"e": "depthUpdate", "E": self.seq, "s": SYMBOL, "U": self.seq, "u": self.seq,
                    "b": [["100.00", f"{1.0 + size:.3f}"]], "a": []}  # fmt: skip
        if not hidden:
            self.say(json.dumps({"stream": "btcusdt@depth@100ms", "data": data}))

    def trade(self, *, hidden=False):
        """Print a trade; say so, unless it is hidden."""
        self.trade_id += 1
        data = {"e": "trade", "s": SYMBOL, "p": "100.50", "q": "0.125", "T": self.trade_id, "m": False,
                "t": self.trade_id}  # fmt: skip
        if not hidden:
            self.say(json.dumps({"stream": "btcusdt@trade", "data": data}))

    def say(self, message):
        """Send to all who are there."""
        with self._lock:
            for client in list(self.clients):
                try:
                    client.send(message)
                except Exception:
                    self.clients.remove(client)

    def cut(self):
        """End all connections."""
        with self._lock:
            clients, self.clients = self.clients, []
        for client in clients:
            with contextlib.suppress(OSError):  # it has gone by itself
                client.socket.shutdown(2)

    def close(self):
        self.cut()
        self._sockets.shutdown()
        self._http.shutdown()
        self._http.server_close()
        for thread in self._threads:
            thread.join()


class OkxExchange(Exchange):
    """One pair's trades, as OKX has them: over REST a hundred at a time, the newest before an id first."""

    @property
    def endpoints(self):
        return {"wss://ws.okx.com:8443/ws/v5": self.ws, "https://www.okx.com/api/v5": self.rest}

    def _traded(self, n):
        return {"instId": "BTC-USDT", "tradeId": str(n), "px": "100.5", "sz": "0.125", "side": "buy",
                "ts": str(1_700_000_000_000 + n)}  # fmt: skip

    def answer(self, path):
        self.answers += 1
        where, _, query = path.partition("?")
        if where.endswith("/market/history-trades"):
            asked = dict(urllib.parse.parse_qsl(query))
            newest = min(self.trade_id, int(asked["after"]) - 1)
            return {
                "data": [self._traded(n) for n in range(newest, max(0, newest - int(asked["limit"])), -1)]
            }
        listed = {"instId": "BTC-USDT", "ctVal": "", "ctMult": "", "tickSz": "0.1", "lotSz": "0.01",
                  "settleCcy": ""}  # fmt: skip
        return {"data": [listed] if "instType=SPOT" in query else []}

    def trade(self, *, hidden=False):
        self.trade_id += 1
        if not hidden:
            data = [self._traded(self.trade_id)]
            self.say(json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": data}))
