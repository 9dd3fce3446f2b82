use hmac::{Hmac, KeyInit, Mac};
use rand::{TryCryptoRng, rngs::SysError};
use service_runtime::Secret;
use sha2::Sha256;
use storage::ApiKeyId;

/// Every key starts with this, so that secret scanners recognise it.
const PREFIX: &str = "llmb_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// An API key in the hands of its owner: `llmb_<id>_<secret>`, both parts hexadecimal, the secret 256 random bits.
#[derive(Debug, Clone)]
pub struct ApiKey {
    id: ApiKeyId,
    secret: Secret,
}

impl ApiKey {
    /// Makes a random key.
    ///
    /// # Errors
    /// The source of randomness failed.
    pub fn draw<R: TryCryptoRng<Error = SysError>>(rng: &mut R) -> Result<Self, SysError> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        rng.try_fill_bytes(&mut id)?;
        rng.try_fill_bytes(&mut secret)?;
        Ok(Self {
            id: ApiKeyId(hexadecimal(&id)),
            secret: Secret::new(hexadecimal(&secret)),
        })
    }

    /// Parses a key; `None` if the text has another form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let hexadecimal = |part: &str, bytes: usize| {
            part.len() == 2 * bytes && part.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        (hexadecimal(id, ID_BYTES) && hexadecimal(secret, SECRET_BYTES)).then(|| Self {
            id: ApiKeyId(id.to_owned()),
            secret: Secret::new(secret.to_owned()),
        })
    }

    /// The public part, by which the key's record is found.
    #[must_use]
    pub fn id(&self) -> &ApiKeyId {
        &self.id
    }

    /// The whole key, to be shown to its owner once.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id.0, self.secret.expose())
    }

    /// The hash under which the secret is stored.
    #[must_use]
    pub fn hash(&self, pepper: &Pepper) -> [u8; 32] {
        pepper.hash(self.secret.expose())
    }
}

/// The key of the hashes of secrets. Without it, a copy of the database does not allow guessing secrets.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

impl Pepper {
    /// From the setting `API_KEY_PEPPER`.
    #[must_use]
    pub fn new(pepper: &Secret) -> Self {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length (RFC 2104)")]
        let keyed = Hmac::new_from_slice(pepper.expose().as_bytes()).expect("a key for HMAC");
        Self(keyed)
    }

    /// HMAC-SHA-256 of the secret.
    pub(crate) fn hash(&self, secret: &str) -> [u8; 32] {
        let mut keyed = self.0.clone();
        keyed.update(secret.as_bytes());
        keyed.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for Pepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pepper(…)")
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;

    #[test]
    fn a_key_reads_back_and_shows_nothing_in_debug() {
        let key = ApiKey::draw(&mut SysRng).unwrap();
        let shown = key.expose();
        let (pepper, other) = (
            Pepper::new(&Secret::new("pepper".to_owned())),
            Pepper::new(&Secret::new("salt".to_owned())),
        );
        let read = ApiKey::parse(&shown).unwrap();
        assert_eq!((read.id(), read.hash(&pepper)), (key.id(), key.hash(&pepper)));
        assert_ne!(key.hash(&pepper), key.hash(&other));
        assert!(!format!("{key:?}{pepper:?}").contains(&shown[23..]));
        assert_ne!(ApiKey::draw(&mut SysRng).unwrap().expose(), shown);
    }

    #[test]
    fn other_forms_are_not_keys() {
        for text in [
            "",
            "llmb_",
            "llmb_0123456789abcdef_",
            "sk-0123456789abcdef",
            "llmb_é_é",
        ] {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }

    /// Every text near a key, one byte changed, cut, put in or left out: none is read as another key than it is.
    #[test]
    fn what_is_read_as_a_key_is_that_key() {
        let key = ApiKey::draw(&mut SysRng).unwrap().expose();
        let holds = |text: &str| {
            let Some(read) = ApiKey::parse(text) else {
                return false;
            };
            assert_eq!(read.expose(), text);
            assert_eq!((read.id().0.len(), read.secret.expose().len()), (16, 64));
            true
        };
        assert!(holds(&key));
        for at in 0..=key.len() {
            let (before, after) = key.split_at(at);
            assert!(!holds(before) || after.is_empty(), "{before}");
            assert!(!holds(after) || before.is_empty(), "{after}");
            for code in 0..=0x2ff {
                let Some(c) = char::from_u32(code) else { continue };
                assert!(!holds(&format!("{before}{c}{after}")), "{c:?} put in at {at}");
                if let Some(rest) = after.get(1..) {
                    let changed = format!("{before}{c}{rest}");
                    let same_form =
                        c.is_ascii_hexdigit() && after.as_bytes()[0].is_ascii_hexdigit() && at >= 5;
                    assert_eq!(
                        holds(&changed),
                        same_form || changed == key,
                        "{c:?} for one at {at}"
                    );
                }
            }
            if let Some(rest) = after.get(1..) {
                assert!(!holds(&format!("{before}{rest}")), "without the one at {at}");
            }
        }
        for text in [
            "",
            "_",
            "llmb__",
            "llmb_é_é",
            &"llmb_".repeat(1000),
            &"0".repeat(1 << 20),
            "\0",
            "llmb_\u{202e}",
        ] {
            assert!(!holds(text));
        }
    }

    #[test]
    fn the_hash_is_hmac_sha_256() {
        // RFC 4231, test case 2.
        let hash = Pepper::new(&Secret::new("Jefe".to_owned())).hash("what do ya want for nothing?");
        assert_eq!(
            hexadecimal(&hash),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
