//! A small SAE (ETSI GS QKD 014 V1.1.1) with ureq.
//!
//!     sae get SLAVE_SAE_ID             requests a new key and prints its key_ID, to be sent to the slave
//!     sae fetch MASTER_SAE_ID KEY_ID   gets the key that the master has requested
//!
//! KME_URL, SAE_CERT, SAE_KEY and KME_CA say which KME, and with which PEM files. Exit codes: 0 done, 1 refused, 3 the key is lost.

use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io, thread};

use base64::prelude::{Engine, BASE64_STANDARD};
use sha2::{Digest, Sha256};
use ureq::tls::{parse_pem, Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Timeout};

const TRIES: u32 = 5;
const MAX_WAIT: Duration = Duration::from_secs(30);

enum Failure {
    /// The KME does not give a key; another try would not help.
    Refused(String),
    /// The key was handed out, but its answer did not arrive: the master has to request another key.
    KeyLost,
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Refused(error.to_string())
    }
}

struct Key {
    id: String,
    bits: Vec<u8>,
}

struct Sae {
    base: String,
    agent: Agent,
}

impl Sae {
    fn new(url: &str, cert: &str, key: &str, ca: &str) -> Result<Sae, Failure> {
        let client = ClientCert::new_with_certs(&certificates(cert)?, PrivateKey::from_pem(&fs::read(key)?)?);
        let tls = TlsConfig::builder()
            .provider(TlsProvider::NativeTls)
            .client_cert(Some(client))
            .root_certs(RootCerts::new_with_certs(&certificates(ca)?))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(30)))
            // A kept connection may break at any time, and each request is rare.
            .max_idle_connections(0)
            .build()
            .into();
        Ok(Sae { base: format!("{}/api/v1/keys/", url.trim_end_matches('/')), agent })
    }

    /// A new key to share with the slave. Its key_ID is not secret.
    fn get(&self, slave: &str) -> Result<Key, Failure> {
        // If an answer is lost, its key expires at the KMEs. Nobody knows its key_ID, so another one can be requested.
        self.ask(&format!("{}/enc_keys?number=1&size=256", percent_encoded(slave)), false)
    }

    /// The key that the master has requested, once.
    fn fetch(&self, master: &str, key_id: &str) -> Result<Key, Failure> {
        self.ask(&format!("{}/dec_keys?key_ID={}", percent_encoded(master), percent_encoded(key_id)), true)
    }

    fn ask(&self, path: &str, reads_once: bool) -> Result<Key, Failure> {
        let mut wait = Duration::from_secs(1);
        let mut lost = false;
        let mut problem = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                thread::sleep(wait);
                wait = MAX_WAIT.min(2 * wait);
            }
            let (status, retry_after, body) = match self.request(path) {
                Ok(answer) => answer,
                // Another try makes no difference to a server that is not trusted.
                Err(error @ (ureq::Error::NativeTls(_) | ureq::Error::Tls(_))) => return Err(error.into()),
                Err(error) => {
                    // The request may have arrived. A KME that remembers its answers gives the same key again.
                    lost = lost || was_connected(&error);
                    problem = error.to_string();
                    continue;
                }
            };
            let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            if status == 200 {
                let key = &json["keys"][0];
                return match (key["key_ID"].as_str(), key["key"].as_str()) {
                    (Some(id), Some(bits)) => Ok(Key { id: id.to_string(), bits: BASE64_STANDARD.decode(bits)? }),
                    _ => Err(Failure::Refused("the answer is not a container of keys".to_string())),
                };
            }
            problem = format!("the KME answers {status}: {}", json["message"].as_str().unwrap_or("no message"));
            if status == 503 {
                // No keys in stock, or the other KME is away: nothing was used up.
                if let Some(seconds) = retry_after {
                    wait = MAX_WAIT.min(Duration::from_secs(seconds));
                }
                continue;
            }
            if lost && reads_once && status == 400 {
                return Err(Failure::KeyLost);
            }
            return Err(Failure::Refused(problem));
        }
        Err(Failure::Refused(format!("no key after {TRIES} tries: {problem}")))
    }

    /// Status code, Retry-After in seconds, body.
    fn request(&self, path: &str) -> Result<(u16, Option<u64>, String), ureq::Error> {
        let mut response = self.agent.get(format!("{}{path}", self.base)).call()?;
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok((response.status().as_u16(), retry_after, response.body_mut().read_to_string()?))
    }
}

fn was_connected(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => false,
        ureq::Error::Timeout(timeout) => !matches!(timeout, Timeout::Resolve | Timeout::Connect),
        ureq::Error::Io(error) => error.kind() != io::ErrorKind::ConnectionRefused,
        _ => true,
    }
}

fn certificates(path: &str) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = fs::read(path)?;
    let items = parse_pem(&pem).collect::<Result<Vec<_>, _>>()?;
    Ok(items.into_iter().filter_map(|item| if let PemItem::Certificate(cert) = item { Some(cert) } else { None }).collect())
}

fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn run() -> Result<Key, Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let sae = Sae::new(&env::var("KME_URL")?, &env::var("SAE_CERT")?, &env::var("SAE_KEY")?, &env::var("KME_CA")?)?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["get", slave] => sae.get(slave),
        ["fetch", master, key_id] => sae.fetch(master, key_id),
        _ => Err(Failure::Refused("usage: sae get SLAVE_SAE_ID | sae fetch MASTER_SAE_ID KEY_ID".to_string())),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(key) => {
            // Here the key would be used. A fingerprint shows that both ends have the same one.
            println!("{}", key.id);
            let digest: String = Sha256::digest(&key.bits)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("fingerprint {digest}");
            ExitCode::SUCCESS
        }
        Err(Failure::Refused(problem)) => {
            eprintln!("{problem}");
            ExitCode::from(1)
        }
        Err(Failure::KeyLost) => {
            eprintln!("the answer with the key was lost; ask the master for another key");
            ExitCode::from(3)
        }
    }
}
