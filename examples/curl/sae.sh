#!/bin/sh
# A small SAE (ETSI GS QKD 014 V1.1.1) with curl 7.84 or newer and jq.
#
#   sae.sh get SLAVE_SAE_ID              requests a new key and prints its key_ID, to be sent to the slave
#   sae.sh fetch MASTER_SAE_ID KEY_ID    gets the key that the master has requested
#
# KME_URL, SAE_CERT, SAE_KEY and KME_CA say which KME, and with which PEM files. Exit codes: 0 done, 1 refused, 3 the key is lost.
set -eu
umask 077

tries=5
max_wait=30

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

fail() {
  echo "$2" >&2
  exit "$1"
}

percent_encoded() { printf '%s' "$1" | jq -sRr @uri; }

# Asks for one key: ask PATH READS_ONCE
ask() {
  wait=1 lost=no problem='' try=0
  while [ "$try" -lt "$tries" ]; do
    [ "$try" -eq 0 ] || sleep "$wait"
    try=$((try + 1)) wait=$((2 * wait))
    [ "$wait" -le "$max_wait" ] || wait=$max_wait
    code=0
    # Status code and Retry-After, which may be empty.
    result=$(curl -sS --cert "$SAE_CERT" --key "$SAE_KEY" --cacert "$KME_CA" --noproxy '*' --connect-timeout 5 --max-time 30 \
      --output "$answer" --write-out '%{http_code} %header{retry-after}' "${KME_URL%/}/api/v1/keys/$1") || code=$?
    case $code in
      0) ;;
      6 | 7 | 35) problem="no connection" && continue ;;
      # The request may have arrived. A KME that remembers its answers gives the same key again.
      18 | 28 | 52 | 55 | 56) lost=yes problem="no answer" && continue ;;
      *) exit 1 ;;
    esac
    status=${result%% *} retry_after=${result#* }
    [ "$status" != 200 ] || return 0
    problem="the KME answers $status: $(jq -r .message "$answer" 2>/dev/null || echo 'no message')"
    if [ "$status" = 503 ]; then
      # No keys in stock, or the other KME is away: nothing was used up.
      case $retry_after in
        '' | *[!0-9]*) ;;
        *) [ "$retry_after" -gt "$max_wait" ] && wait=$max_wait || wait=$retry_after ;;
      esac
      continue
    fi
    if [ "$status $lost $2" = "400 yes yes" ]; then
      fail 3 "the answer with the key was lost; ask the master for another key"
    fi
    fail 1 "$problem"
  done
  fail 1 "no key after $tries tries: $problem"
}

case ${1-} in
  # If an answer is lost, its key expires at the KMEs. Nobody knows its key_ID, so another one can be requested.
  get) ask "$(percent_encoded "${2:?SLAVE_SAE_ID}")/enc_keys?number=1&size=256" no ;;
  fetch) ask "$(percent_encoded "${2:?MASTER_SAE_ID}")/dec_keys?key_ID=$(percent_encoded "${3:?KEY_ID}")" yes ;;
  *) fail 1 "usage: sae.sh get SLAVE_SAE_ID | sae.sh fetch MASTER_SAE_ID KEY_ID" ;;
esac

# Here the key would be used. A fingerprint shows that both ends have the same one.
jq -er '.keys[0].key_ID' "$answer"
echo "fingerprint $(jq -er '.keys[0].key' "$answer" | base64 -d | sha256sum | cut -c 1-16)" >&2
