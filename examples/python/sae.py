#!/usr/bin/env python3
"""A small SAE (ETSI GS QKD 014 V1.1.1) with requests.

    sae.py get SLAVE_SAE_ID             requests a new key and prints its key_ID, to be sent to the slave
    sae.py fetch MASTER_SAE_ID KEY_ID   gets the key that the master has requested

KME_URL, SAE_CERT, SAE_KEY and KME_CA say which KME, and with which PEM files. Exit codes: 0 done, 1 refused, 3 the key is lost.
"""

import base64
import hashlib
import os
import sys
import time
from urllib.parse import quote

import requests

TRIES = 5
MAX_WAIT_SECONDS = 30


class Refused(Exception):
    """The KME does not give a key; another try would not help."""


class KeyLost(Exception):
    """The key was handed out, but its answer did not arrive: the master has to request another key."""


class Sae:
    def __init__(self, url, cert, key, ca):
        self.base = url.rstrip("/") + "/api/v1/keys/"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.cert = (cert, key)
        self.session.verify = ca

    def get(self, slave):
        """A new key to share with the slave: (key_ID, bytes). Its key_ID is not secret."""
        # If an answer is lost, its key expires at the KMEs. Nobody knows its key_ID, so another one can be requested.
        return self._key(f"{quote(slave, safe='')}/enc_keys", {"number": 1, "size": 256})

    def fetch(self, master, key_id):
        """The key that the master has requested, once: (key_ID, bytes)."""
        return self._key(f"{quote(master, safe='')}/dec_keys", {"key_ID": key_id})

    def _key(self, path, parameters):
        wait, lost, problem = 1, False, None
        for attempt in range(TRIES):
            if attempt > 0:
                time.sleep(wait)
            wait = min(2 * wait, MAX_WAIT_SECONDS)
            try:
                answer = self.session.get(self.base + path, params=parameters, timeout=(5, 30))
            except requests.exceptions.SSLError:
                raise
            except requests.exceptions.ConnectTimeout as error:
                problem = error
                continue
            except requests.exceptions.RequestException as error:
                # The request may have arrived. A KME that remembers its answers gives the same key again.
                lost, problem = True, error
                continue
            if answer.status_code == 200:
                key = answer.json()["keys"][0]
                return key["key_ID"], base64.b64decode(key["key"], validate=True)
            problem = f"the KME answers {answer.status_code}: {message_of(answer)}"
            if answer.status_code == 503:
                # No keys in stock, or the other KME is away: nothing was used up.
                retry_after = answer.headers.get("Retry-After", "")
                if retry_after.isdigit():
                    wait = min(int(retry_after), MAX_WAIT_SECONDS)
                continue
            if lost and answer.status_code == 400 and "key_ID" in parameters:
                raise KeyLost("the answer with the key was lost; ask the master for another key")
            raise Refused(problem)
        raise Refused(f"no key after {TRIES} tries: {problem}")


def message_of(answer):
    try:
        return answer.json()["message"]
    except (ValueError, KeyError, TypeError):
        return "no message"


def main(arguments):
    sae = Sae(*(os.environ[name] for name in ("KME_URL", "SAE_CERT", "SAE_KEY", "KME_CA")))
    if len(arguments) == 2 and arguments[0] == "get":
        key_id, key = sae.get(arguments[1])
    elif len(arguments) == 3 and arguments[0] == "fetch":
        key_id, key = sae.fetch(arguments[1], arguments[2])
    else:
        sys.exit(__doc__)
    # Here the key would be used. A fingerprint shows that both ends have the same one.
    print(key_id)
    print("fingerprint", hashlib.sha256(key).hexdigest()[:16], file=sys.stderr)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyLost as error:
        print(error, file=sys.stderr)
        sys.exit(3)
    except (Refused, requests.exceptions.RequestException) as error:
        sys.exit(str(error))
