// A small SAE (ETSI GS QKD 014 V1.1.1) with the standard library.
//
//	sae get SLAVE_SAE_ID             requests a new key and prints its key_ID, to be sent to the slave
//	sae fetch MASTER_SAE_ID KEY_ID   gets the key that the master has requested
//
// KME_URL, SAE_CERT, SAE_KEY and KME_CA say which KME, and with which PEM files. Exit codes: 0 done, 1 refused, 3 the key is lost.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	tries   = 5
	maxWait = 30 * time.Second
	// Bytes of an answer; one key is less than 1 kB.
	maxAnswer = 1 << 20
)

// errKeyLost: the key was handed out, but its answer did not arrive. The master has to request another key.
var errKeyLost = errors.New("the answer with the key was lost; ask the master for another key")

type key struct {
	ID   string `json:"key_ID"`
	Bits []byte `json:"key"` // base64 in JSON
}

type sae struct {
	base   string
	client *http.Client
}

func newSAE(kmeURL, certFile, keyFile, caFile string) (*sae, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s has no certificate", caFile)
	}
	transport := &http.Transport{
		TLSClientConfig:     &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots},
		TLSHandshakeTimeout: 10 * time.Second,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		// net/http repeats a GET by itself when a kept connection breaks. Whether an answer was lost would then not be known.
		DisableKeepAlives: true,
	}
	return &sae{
		base:   strings.TrimRight(kmeURL, "/") + "/api/v1/keys/",
		client: &http.Client{Transport: transport, Timeout: 30 * time.Second},
	}, nil
}

// get requests a new key to share with the slave. Its key_ID is not secret.
func (s *sae) get(slave string) (key, error) {
	// If an answer is lost, its key expires at the KMEs. Nobody knows its key_ID, so another one can be requested.
	return s.ask(url.PathEscape(slave)+"/enc_keys?number=1&size=256", false)
}

// fetch gets the key that the master has requested, once.
func (s *sae) fetch(master, keyID string) (key, error) {
	return s.ask(url.PathEscape(master)+"/dec_keys?key_ID="+url.QueryEscape(keyID), true)
}

func (s *sae) ask(path string, readsOnce bool) (key, error) {
	wait, lost := time.Second, false
	var problem error
	for attempt := 0; attempt < tries; attempt++ {
		if attempt > 0 {
			time.Sleep(wait)
			wait *= 2
			if wait > maxWait {
				wait = maxWait
			}
		}
		status, header, body, err := s.request(path)
		if err != nil {
			var dial *net.OpError
			if errors.As(err, &dial) && dial.Op == "dial" {
				problem = err
				continue
			}
			var unknown x509.UnknownAuthorityError
			var hostname x509.HostnameError
			var invalid x509.CertificateInvalidError
			if errors.As(err, &unknown) || errors.As(err, &hostname) || errors.As(err, &invalid) {
				return key{}, err
			}
			// The request may have arrived. A KME that remembers its answers gives the same key again.
			lost, problem = true, err
			continue
		}
		if status == http.StatusOK {
			var container struct {
				Keys []key `json:"keys"`
			}
			if err := json.Unmarshal(body, &container); err != nil || len(container.Keys) != 1 {
				return key{}, errors.New("the answer is not a container of one key")
			}
			return container.Keys[0], nil
		}
		var refusal struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(body, &refusal)
		problem = fmt.Errorf("the KME answers %d: %s", status, refusal.Message)
		if status == http.StatusServiceUnavailable {
			// No keys in stock, or the other KME is away: nothing was used up.
			if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds >= 0 {
				wait = time.Duration(seconds) * time.Second
				if wait > maxWait {
					wait = maxWait
				}
			}
			continue
		}
		if lost && readsOnce && status == http.StatusBadRequest {
			return key{}, errKeyLost
		}
		return key{}, problem
	}
	return key{}, fmt.Errorf("no key after %d tries: %w", tries, problem)
}

func (s *sae) request(path string) (int, http.Header, []byte, error) {
	response, err := s.client.Get(s.base + path)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, response.Header, body, err
}

func run(arguments []string) (key, error) {
	s, err := newSAE(os.Getenv("KME_URL"), os.Getenv("SAE_CERT"), os.Getenv("SAE_KEY"), os.Getenv("KME_CA"))
	if err != nil {
		return key{}, err
	}
	switch {
	case len(arguments) == 2 && arguments[0] == "get":
		return s.get(arguments[1])
	case len(arguments) == 3 && arguments[0] == "fetch":
		return s.fetch(arguments[1], arguments[2])
	}
	return key{}, errors.New("usage: sae get SLAVE_SAE_ID | sae fetch MASTER_SAE_ID KEY_ID")
}

func main() {
	received, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		if errors.Is(err, errKeyLost) {
			os.Exit(3)
		}
		os.Exit(1)
	}
	// Here the key would be used. A fingerprint shows that both ends have the same one.
	fmt.Println(received.ID)
	digest := sha256.Sum256(received.Bits)
	fmt.Fprintln(os.Stderr, "fingerprint", hex.EncodeToString(digest[:])[:16])
}
