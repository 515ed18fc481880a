#!/usr/bin/env python3
"""Uses the page at /ui as a person would, in headless Chromium, against three real nodes.

A write is seen live, a key is browsed with the keyboard, its history and a conflict are shown, a killed node turns down, a narrow screen needs no scrolling
sideways, dark is dark, and the console stays silent. Usage: .ci/page.py NODE [SCREENSHOT.png]. Needs Chromium (Debian:
apt-get install chromium) and nothing of Python but its library.
"""
import base64, json, os, shutil, socket, subprocess, sys, tempfile, time, urllib.request

PATIENCE = 60
PORTS = [28181, 28182, 28183]


def http(method, url, body=None, kind="application/json"):
    request = urllib.request.Request(url, method=method, data=body, headers={"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read()


def eventually(what, ask):
    deadline = time.time() + PATIENCE
    while True:
        try:
            found = ask()
        except (OSError, KeyError):
            found = None
        if found:
            return found
        if time.time() > deadline:
            raise SystemExit(f"/ui: not within {PATIENCE} s: {what}")
        time.sleep(0.1)


class Browser:
    """One tab, spoken to in the browser's own protocol over a WebSocket."""

    def __init__(self, binary, folder, url):
        self.process = subprocess.Popen(
            [binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={folder}/browser", "--window-size=1400,1000", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = eventually("the browser", lambda: open(f"{folder}/browser/DevToolsActivePort").read().split()[0])
        tabs = json.loads(http("GET", f"http://127.0.0.1:{port}/json/list"))
        tab = next(tab for tab in tabs if tab["type"] == "page")
        self.socket = socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE)
        path = tab["webSocketDebuggerUrl"].split(str(port), 1)[1]
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.bytes = b""
        while b"\r\n\r\n" not in self.bytes:
            self.bytes += self.socket.recv(4096)
        self.bytes = self.bytes.split(b"\r\n\r\n", 1)[1]
        self.number, self.console = 0, []
        for domain in ["Runtime", "Log", "Page"]:
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def take(self, count):
        while len(self.bytes) < count:
            more = self.socket.recv(1 << 16)
            if not more:
                raise SystemExit("/ui: the browser went away")
            self.bytes += more
        taken, self.bytes = self.bytes[:count], self.bytes[count:]
        return taken

    def message(self):
        text = b""
        while True:
            first, length = self.take(2)
            length &= 127
            if length >= 126:
                length = int.from_bytes(self.take(2 if length == 126 else 8), "big")
            text += self.take(length)
            if first & 0x80:
                return json.loads(text)

    def call(self, method, **params):
        self.number += 1
        text = json.dumps({"id": self.number, "method": method, "params": params}).encode()
        mask, size = os.urandom(4), len(text)
        head = bytes([0x81, 0x80 | size]) if size < 126 else bytes([0x81, 0x80 | 126]) + size.to_bytes(2, "big")
        self.socket.sendall(head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(text)))
        while True:
            told = self.message()
            if told.get("id") == self.number:
                if "error" in told:
                    raise SystemExit(f"/ui: {method}: {told['error']}")
                return told["result"]
            if told.get("method") in ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"]:
                self.console.append(json.dumps(told["params"])[:500])

    def see(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"/ui: {script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def key(self, name, code):
        text = "\r" if name == "Enter" else ""
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, text=text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)

    def screenshot(self, path):
        shot = self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as file:
            file.write(base64.b64decode(shot["data"]))


def check(is_so, what):
    if not is_so:
        raise SystemExit(f"/ui: {what}")


def start(node, folder, number):
    port = PORTS[number]
    seeds = ",".join(f"127.0.0.1:{port}" for port in PORTS)
    return subprocess.Popen(
        [node, "--port", str(port), "--node-id", f"node{number + 1}", "--seed-nodes", seeds, "--log-level", "error",
         "--policies", "log/=history:prefer-network,cart/=siblings", "--gossip-interval", "500ms", "--probe-interval", "200ms", "--suspect-timeout", "1s"],
        cwd=folder, stdout=subprocess.DEVNULL)


def use(browser, nodes, screenshot):
    at = [f"http://127.0.0.1:{port}" for port in PORTS]
    row = "[...document.querySelectorAll('#members tr')].map(row => row.textContent)"
    eventually("three members alive", lambda: sum("alive" in text for text in browser.see(row) or []) == 3)

    http("PUT", f"{at[1]}/kv/live/now", b'{"seen": true}')
    eventually("a write at another node, live", lambda: "live/now" in browser.see("document.getElementById('feed').textContent"))

    # With the keyboard alone: to the first entry of the listing, and into it, down to a value.
    def press(label):
        eventually(f"{label} in the listing", lambda: label in browser.see("document.getElementById('list').textContent"))
        browser.see("document.activeElement.blur()")
        for _ in range(60):
            browser.key("Tab", 9)
            if browser.see("document.activeElement.closest('#list') ? document.activeElement.textContent : ''").strip() == label:
                return browser.key("Enter", 13)
        raise SystemExit(f"/ui: the Tab key does not lead to {label}")

    browser.see("document.getElementById('theme').scrollIntoView()")
    press("users/")
    press("john")
    eventually("the value of the key", lambda: "Socks" in browser.see("document.getElementById('detail').textContent"))
    if screenshot:
        time.sleep(1)
        browser.screenshot(screenshot)

    def click(place, label):
        found = f"[...document.querySelectorAll('{place} button')].find(one => one.textContent.includes('{label}'))"
        # Found and clicked in one step of the browser: a page that is told of writes draws its lists anew in between.
        eventually(f"{label} in {place}", lambda: browser.see(f"(found => found && (found.click(), true))({found})"))

    def text(place):
        return browser.see(f"document.querySelector('{place}')?.textContent ?? ''")

    # What was written first under a history, and what decided about a key.
    for word in [b'"first"', b'"second"']:
        http("PUT", f"{at[0]}/kv/log/door", word)
    click("#crumbs", "/")
    click("#list", "log/")
    click("#list", "door")
    eventually("two transactions", lambda: text("#history").count("full") == 2)
    # An author is a member, once this node has heard of its first write.
    eventually("who wrote", lambda: (click("#list", "door"), time.sleep(0.3), "node1" in text("#history"))[-1])

    # A write that is heard of late shows the key anew; whoever wants to look back does so again.
    def look_back():
        click("#history tr:last-child", "value then")
        time.sleep(0.3)
        return "first" in text("#detail pre")

    eventually("the value as it was", look_back)
    # Two values side by side are a conflict, which is listed and can be looked into.
    for word in [b'"socks"', b'"shoes"']:
        http("PUT", f"{at[1]}/kv/cart/anna", word)
    click("#conflicts", "cart/anna")
    eventually("both versions", lambda: text("#history").count("shown") == 2)
    check("2 concurrent values" in text("#conflicts"), "the conflict is not named")

    # What others write keeps the place in a long listing, and the value that is looked at.
    lines = "".join(json.dumps({"op": "put", "key": f"many/k{number:04}", "value": number}) + "\n" for number in range(450))
    http("POST", f"{at[0]}/batch", lines.encode(), "application/x-ndjson")
    click("#crumbs", "/")
    click("#list", "many/")
    count = "document.querySelectorAll('#list button').length"
    for length in [200, 400, 450]:
        eventually(f"{length} keys", lambda: browser.see(count) == length)
        browser.see("document.getElementById('more').click()")
    eventually("a key in the focus", lambda: browser.see(
        "[...document.querySelectorAll('#list button')].find(one => one.textContent === 'k0420')?.focus(), document.activeElement.textContent") == "k0420")
    http("PUT", f"{at[1]}/kv/many/new", b"1")
    eventually("a write in the listing", lambda: browser.see(count) == 451)
    check(browser.see("document.activeElement.textContent") == "k0420", "a write takes the focus away")
    # A number is shown as it was written, a key however long it is, and one that ends as a folder does can be reached.
    long = "wide/" + "L" * 900
    http("PUT", f"{at[0]}/kv/{long}", b'{"n":12345678901234567890,"f":1.0}')
    http("PUT", f"{at[0]}/kv/wide/end/", b"1")
    http("PUT", f"{at[0]}/kv/wide/end/more", b"1")
    click("#crumbs", "/")
    click("#list", "wide/")
    click("#list", "LLLL")
    eventually("the number as it was written", lambda: '"n":12345678901234567890,"f":1.0' in text("#detail pre"))
    check(browser.see("document.documentElement.scrollWidth <= innerWidth"), "a long key makes the page wide")
    click("#list", "end/")
    click("#list", "(this very key)")
    eventually("the key that ends as a folder does", lambda: text("#detail h3") == "wide/end/")
    click("#crumbs", "wide/")
    click("#list", "LLLL")
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    width = browser.see("document.documentElement.scrollWidth")
    check(width <= 360, f"a screen of 360 pixels has to be scrolled sideways: {width}")
    browser.call("Emulation.clearDeviceMetricsOverride")
    colour = "getComputedStyle(document.body).backgroundColor"
    shown = []
    for scheme in ["light", "dark"]:
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        shown.append(browser.see(colour))
    check(shown[0] != shown[1], f"light and dark look the same: {shown}")

    nodes[2].kill()
    nodes[2].wait()
    eventually("the killed node down", lambda: any("node3" in text and "down" in text for text in browser.see(row)))
    check(any("node3" in text and "in step" not in text for text in browser.see(row)), "who is down is in step")
    http("PUT", f"{at[0]}/kv/lag", b"1")
    eventually("what it has not confirmed", lambda: any("node3" in text and "1 not confirmed there" in text for text in browser.see(row)))
    check(not browser.console, f"the console is not silent: {browser.console}")

    # The check can fail: an error in the page is noticed.
    browser.see("setTimeout(() => { throw new Error('planted'); }); 1")
    eventually("a planted error in the console", lambda: browser.see("1") and browser.console)


def use_with_tokens(node, folder, browser):
    """Who has a token that opens too little can give another one."""
    tokens, lines = {}, ""
    for name, more in [("cart", ["--scopes", "read", "--prefix", "cart/"]), ("all", ["--scopes", "read"])]:
        made = subprocess.run([node, "token", name] + more, capture_output=True, text=True, check=True)
        tokens[name], lines = made.stderr.strip(), lines + made.stdout
    with open(f"{folder}/tokens", "w") as file:
        file.write(lines)
    process = subprocess.Popen([node, "--port", "28184", "--node-id", "guarded", "--data-dir", "guarded", "--tokens-file", "tokens",
                                "--log-level", "error"], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        eventually("the guarded node", lambda: http("GET", "http://127.0.0.1:28184/readyz"))
        browser.call("Page.navigate", url="http://127.0.0.1:28184/ui")
        mode = "document.getElementById('mode')?.textContent"
        for word, token in [("a token is needed", None), ("does not open", tokens["cart"]), ("normal", tokens["all"])]:
            if token:
                browser.see(f"document.getElementById('token').value = '{token}'; document.querySelector('#login button').click()")
            eventually(f"{word} of a guarded node", lambda: word in (browser.see(mode) or "") and
                       browser.see("document.getElementById('login').hidden") == (word == "normal"))
    finally:
        process.kill()
        process.wait()


def main():
    node, screenshot = os.path.realpath(sys.argv[1]), os.path.realpath(sys.argv[2]) if len(sys.argv) > 2 else None
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not binary:
        raise SystemExit("the page test needs Chromium (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        nodes = [start(node, folder, number) for number in range(3)]
        browser = None
        try:
            first = f"http://127.0.0.1:{PORTS[0]}"
            eventually("a node", lambda: http("GET", f"{first}/readyz"))
            for name in ["john", "mary", "old/anna"]:
                http("PUT", f"{first}/kv/users/{name}", json.dumps({"name": name, "likes": ["Socks"]}).encode())
            http("PUT", f"{first}/kv/home/room/closet/socks", b'"red"')
            browser = Browser(binary, folder, f"{first}/ui")
            use(browser, nodes, screenshot)
            use_with_tokens(node, folder, browser)
        finally:
            for process in nodes + ([browser.process] if browser else []):
                process.kill()
                process.wait()
    print("/ui: a write seen live, a key browsed by keyboard, a history and a conflict looked into, a killed node down, narrow and dark, the console silent")


main()
