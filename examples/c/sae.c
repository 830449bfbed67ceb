/*
 * A small SAE (ETSI GS QKD 014 V1.1.1) with libcurl, jansson (JSON) and OpenSSL (base64, SHA-256).
 *
 *     sae get SLAVE_SAE_ID             requests a new key and prints its key_ID, to be sent to the slave
 *     sae fetch MASTER_SAE_ID KEY_ID   gets the key that the master has requested
 *
 * KME_URL, SAE_CERT, SAE_KEY and KME_CA say which KME, and with which PEM files. Exit codes: 0 done, 1 refused, 3 the key is lost.
 */
#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES 5
#define MAX_WAIT_SECONDS 30
/* Bytes; one key is less than 1 kB. */
#define MAX_ANSWER 65536

enum { DONE = 0, REFUSED = 1, KEY_LOST = 3 };

struct buffer {
  char bytes[MAX_ANSWER + 1];
  size_t length;
};

static size_t collect(char *data, size_t size, size_t count, void *user) {
  struct buffer *answer = user;
  if (size * count > MAX_ANSWER - answer->length) return 0;
  memcpy(answer->bytes + answer->length, data, size * count);
  answer->length += size * count;
  return size * count;
}

/* The first key of a container (clause 6.3). Returns its length in bytes, or -1. */
static int key_of(const struct buffer *answer, char key_id[64], unsigned char *bits, size_t capacity) {
  json_t *json = json_loadb(answer->bytes, answer->length, 0, NULL);
  json_t *key = json_array_get(json_object_get(json, "keys"), 0);
  const char *id = json_string_value(json_object_get(key, "key_ID"));
  const char *base64 = json_string_value(json_object_get(key, "key"));
  int length = -1;
  if (id && base64 && strlen(id) < 64 && strlen(base64) / 4 * 3 <= capacity) {
    size_t digits = strlen(base64);
    length = EVP_DecodeBlock(bits, (const unsigned char *)base64, (int)digits);
    /* The padding is decoded to zeros. */
    while (length > 0 && digits > 0 && base64[--digits] == '=') length--;
    strcpy(key_id, id);
  }
  json_decref(json);
  return length;
}

static void print_refusal(const struct buffer *answer, long status) {
  json_t *json = json_loadb(answer->bytes, answer->length, 0, NULL);
  const char *message = json_string_value(json_object_get(json, "message"));
  fprintf(stderr, "the KME answers %ld: %s\n", status, message ? message : "no message");
  json_decref(json);
}

/* Asks for one key. reads_once: the KME gives it only once. */
static int ask(CURL *curl, const char *url, int reads_once, struct buffer *answer) {
  long wait = 1;
  int lost = 0;
  for (int attempt = 0; attempt < TRIES; attempt++) {
    if (attempt > 0) sleep((unsigned)wait);
    wait = 2 * wait < MAX_WAIT_SECONDS ? 2 * wait : MAX_WAIT_SECONDS;
    answer->length = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    CURLcode code = curl_easy_perform(curl);
    if (code != CURLE_OK) {
      fprintf(stderr, "%s\n", curl_easy_strerror(code));
      switch (code) {
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
        case CURLE_SSL_CONNECT_ERROR:
          continue;
        case CURLE_PARTIAL_FILE:
        case CURLE_OPERATION_TIMEDOUT:
        case CURLE_GOT_NOTHING:
        case CURLE_SEND_ERROR:
        case CURLE_RECV_ERROR:
          /* The request may have arrived. A KME that remembers its answers gives the same key again. */
          lost = 1;
          continue;
        default:
          return REFUSED;
      }
    }
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200) return DONE;
    if (status == 400 && lost && reads_once) {
      fprintf(stderr, "the answer with the key was lost; ask the master for another key\n");
      return KEY_LOST;
    }
    print_refusal(answer, status);
    if (status != 503) return REFUSED;
    /* No keys in stock, or the other KME is away: nothing was used up. */
    curl_off_t retry_after = 0;
    curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after);
    if (retry_after > 0) wait = retry_after < MAX_WAIT_SECONDS ? (long)retry_after : MAX_WAIT_SECONDS;
  }
  fprintf(stderr, "no key after %d tries\n", TRIES);
  return REFUSED;
}

static char *setting(const char *name) {
  char *value = getenv(name);
  if (value == NULL) {
    fprintf(stderr, "%s is not set\n", name);
    exit(REFUSED);
  }
  return value;
}

int main(int argc, char **argv) {
  int is_get = argc == 3 && strcmp(argv[1], "get") == 0;
  int is_fetch = argc == 4 && strcmp(argv[1], "fetch") == 0;
  if (!is_get && !is_fetch) {
    fprintf(stderr, "usage: sae get SLAVE_SAE_ID | sae fetch MASTER_SAE_ID KEY_ID\n");
    return REFUSED;
  }
  curl_global_init(CURL_GLOBAL_DEFAULT);
  CURL *curl = curl_easy_init();
  static struct buffer answer;
  if (curl == NULL) return REFUSED;
  curl_easy_setopt(curl, CURLOPT_SSLCERT, setting("SAE_CERT"));
  curl_easy_setopt(curl, CURLOPT_SSLKEY, setting("SAE_KEY"));
  curl_easy_setopt(curl, CURLOPT_CAINFO, setting("KME_CA"));
  curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 5L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
  /* libcurl repeats a request by itself when a kept connection breaks. Whether an answer was lost would then not be known. */
  curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1L);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);

  /* If an answer of enc_keys is lost, its key expires at the KMEs. Nobody knows its key_ID, so another one can be requested. */
  char url[4096];
  char *sae = curl_easy_escape(curl, argv[2], 0);
  char *id = curl_easy_escape(curl, is_fetch ? argv[3] : "", 0);
  int length = is_get
    ? snprintf(url, sizeof url, "%s/api/v1/keys/%s/enc_keys?number=1&size=256", setting("KME_URL"), sae)
    : snprintf(url, sizeof url, "%s/api/v1/keys/%s/dec_keys?key_ID=%s", setting("KME_URL"), sae, id);
  curl_free(sae);
  curl_free(id);
  int result = length > 0 && (size_t)length < sizeof url ? ask(curl, url, is_fetch, &answer) : REFUSED;

  if (result == DONE) {
    char key_id[64];
    unsigned char bits[1024];
    int bytes = key_of(&answer, key_id, bits, sizeof bits);
    if (bytes < 0) {
      fprintf(stderr, "the answer is not a container of keys\n");
      result = REFUSED;
    } else {
      /* Here the key would be used. A fingerprint shows that both ends have the same one. */
      unsigned char digest[EVP_MAX_MD_SIZE];
      EVP_Digest(bits, (size_t)bytes, digest, NULL, EVP_sha256(), NULL);
      printf("%s\n", key_id);
      fprintf(stderr, "fingerprint ");
      for (int i = 0; i < 8; i++) fprintf(stderr, "%02x", digest[i]);
      fprintf(stderr, "\n");
    }
    OPENSSL_cleanse(bits, sizeof bits);
  }
  OPENSSL_cleanse(answer.bytes, sizeof answer.bytes);
  curl_easy_cleanup(curl);
  curl_global_cleanup();
  return result;
}
