"""Opens a page in headless Chromium and does as told: one JSON array a line on stdin, one JSON value a line on stdout.

["open", URL]        loads it
["eval", EXPRESSION] the value of a JavaScript expression
["shoot", FILE]      a picture of it as PNG
["media", NAME, VALUE] such as prefers-color-scheme, dark
["heard"]            what the page has logged, thrown, been refused and asked the network for

It speaks the DevTools protocol over a pipe, so that no port is opened: NUL-terminated JSON, descriptors 3 and 4.
"""

import base64
import json
import os
import subprocess
import sys


class Browser:
    def __init__(self, program, profile):
        down, self.to = os.pipe()
        self.of, up = os.pipe()

        def descriptors():
            # Beyond what is in use, so that neither overwrites the other.
            a, b = os.dup2(down, 30), os.dup2(up, 31)
            os.dup2(a, 3)
            os.dup2(b, 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        flags += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}", "--window-size=1280,1000"]
        self.process = subprocess.Popen([program, *flags, "about:blank"], preexec_fn=descriptors, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(down)
        os.close(up)
        self.rest, self.count, self.session, self.heard = b"", 0, None, []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(it for it in targets if it["type"] == "page")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def message(self):
        while b"\0" not in self.rest:
            read = os.read(self.of, 1 << 16)
            if not read:
                raise EOFError("the browser is gone")
            self.rest += read
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.heard.append(["thrown", params["exceptionDetails"].get("exception", {}).get("description", "?")])
        elif method == "Runtime.consoleAPICalled":
            self.heard.append(["console", params["type"]])
        elif method == "Log.entryAdded":
            self.heard.append(["log", params["entry"]["level"], params["entry"]["text"]])
        elif method == "Network.requestWillBeSent":
            self.heard.append(["request", params["request"]["url"]])

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["result"]
            self.note(answer)

    def open(self, url):
        self.call("Page.navigate", url=url)
        while self.eval("document.readyState + ' ' + location.href") != f"complete {url}":
            pass
        return True

    def eval(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"])
        return result["result"].get("value")

    def shoot(self, file):
        picture = self.call("Page.captureScreenshot", format="png")
        with open(file, "wb") as out:
            out.write(base64.b64decode(picture["data"]))
        return True

    def media(self, name, value):
        self.call("Emulation.setEmulatedMedia", features=[{"name": name, "value": value}])
        return True


def main():
    browser = Browser(sys.argv[1], sys.argv[2])
    try:
        for line in sys.stdin:
            verb, *arguments = json.loads(line)
            answer = browser.heard if verb == "heard" else getattr(browser, verb)(*arguments)
            print(json.dumps(answer), flush=True)
    finally:
        browser.process.kill()
        browser.process.wait()


if __name__ == "__main__":
    main()
