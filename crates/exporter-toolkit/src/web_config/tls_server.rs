//! The `tls_server_config` of the web configuration file.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use rustls::{
    CipherSuite, NamedGroup, SupportedCipherSuite,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    files,
    settings::{Reported, Section, Taken, boolean},
};

/// The suites and groups of Go that are not offered here: without forward secrecy, without authenticated encryption, or
/// not in the cryptographic library.
const NOT_OFFERED: [&str; 15] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "CurveP521",
    "X25519MLKEM768",
];

const CURVES: [(&str, NamedGroup); 3] =
    [("X25519", NamedGroup::X25519), ("CurveP256", NamedGroup::secp256r1), ("CurveP384", NamedGroup::secp384r1)];

/// The suites by their IANA names. Those of TLS 1.3 are always on, as in Go, which may yet name them.
fn cipher_suites() -> Vec<(String, CipherSuite)> {
    let suites = ring::ALL_CIPHER_SUITES.iter().map(SupportedCipherSuite::suite);
    suites.filter_map(|suite| Some((suite.as_str()?.replace("TLS13_", "TLS_"), suite))).collect()
}

/// The server's side of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsServer {
    /// The server's certificate, then those up to its root.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The key of the first of them.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// Where the key stands, if not in the configuration file itself.
    pub key_file: Option<PathBuf>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// The authorities of clients' certificates.
    pub client_ca: Vec<CertificateDer<'static>>,
    /// Where given, a client's certificate must have one of these names.
    pub client_allowed_sans: Option<Vec<AllowedSan>>,
    /// The lowest and the highest version.
    pub versions: (TlsVersion, TlsVersion),
    /// Those of TLS 1.2 that are offered, in this order; all where it is empty.
    pub cipher_suites: Vec<CipherSuite>,
    /// Whether the server's order of suites counts, not the client's.
    pub prefer_server_cipher_suites: bool,
    /// The groups of the key exchange, in this order; all where it is empty.
    pub curves: Vec<NamedGroup>,
    /// The suites and groups that were named and are not offered here.
    pub not_offered: Vec<&'static str>,
}

/// A version of TLS that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

/// What is asked of clients, by the names of Go's `tls.ClientAuthType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    NoClientCert,
    /// A certificate, if they have one, which nothing is made of.
    RequestClientCert,
    /// A certificate of any authority.
    RequireAnyClientCert,
    /// If they give a certificate, one of the configured authorities, or of the system's where there are none.
    VerifyClientCertIfGiven,
    /// A certificate of the configured authorities, or of the system's where there are none.
    RequireAndVerifyClientCert,
}

impl ClientAuth {
    /// Whether a client must have a certificate.
    #[must_use]
    pub fn requires(self) -> bool {
        matches!(self, Self::RequireAnyClientCert | Self::RequireAndVerifyClientCert)
    }

    /// Whether a certificate must be of a known authority.
    #[must_use]
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert)
    }
}

/// A subject alternative name, compared whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedSan {
    /// A DNS name, an e-mail address or a URI.
    Text(String),
    /// An IP address.
    Ip(IpAddr),
}

pub(super) fn tls(mut section: Section<'_>) -> Result<TlsServer, Reported> {
    let of_certificate = "The server's certificate in PEM, then those up to its root.";
    let certificates = pem(&mut section, ["cert", "cert_file"], of_certificate, "a certificate", certificates);
    let private_key = |pem: &[u8]| PrivateKeyDer::from_pem_slice(pem).ok().map(Arc::new);
    let key =
        pem(&mut section, ["key", "key_file"], "Private key of the certificate, in PEM.", "a private key", private_key);
    let of_ca = "Authorities of client certificates, in PEM.";
    let client_ca = pem(&mut section, ["client_ca", "client_ca_file"], of_ca, "a certificate", self::certificates);
    let certificates = certificates.and_then(|given| given.ok_or_else(|| missing(&section, "cert")));
    let key = key.and_then(|given| given.ok_or_else(|| missing(&section, "key")));
    let of_auth = "Whether client certificates are requested, required and verified; NoClientCert by default.";
    let client_auth = section.take("client_auth_type", of_auth, client_auth);
    let sans = section.take_list(
        "client_allowed_sans",
        "Subject alternative names, one of which a client certificate must have.",
        |text| Ok::<_, &str>(allowed_san(text)),
    );
    let min = section.take("min_version", "Minimum version of TLS; TLS12 by default.", tls_version);
    let max = section.take("max_version", "Maximum version of TLS; TLS13 by default.", tls_version);
    let of_suites = "Cipher suites of TLS 1.2, in this order; all by default. Those of TLS 1.3 are always on.";
    let suites = section.take_list("cipher_suites", of_suites, |name| of_table(name, &cipher_suites()));
    let suites = suites.and_then(|suites| offered(&section, "cipher_suites", suites));
    let of_preference = "Whether the server's order of suites counts, not the client's; true by default.";
    let prefer_server_cipher_suites = section.take("prefer_server_cipher_suites", of_preference, boolean);
    let of_curves = "Groups of the key exchange, in this order; all by default.";
    let curves = section.take_list("curve_preferences", of_curves, |name| of_table(name, &CURVES));
    let curves = curves.and_then(|curves| offered(&section, "curve_preferences", curves));
    let client_auth = client_auth.map(|auth| auth.unwrap_or(ClientAuth::NoClientCert));
    if let (Ok(auth), Ok(ca), Ok(sans)) = (&client_auth, &client_ca, &sans) {
        check_client_auth(&section, *auth, ca.is_some(), sans.is_some());
    }
    let versions = min.and_then(|min| Ok((min.unwrap_or(TlsVersion::Tls12), max?.unwrap_or(TlsVersion::Tls13))));
    if let (Ok(versions), Ok(suites)) = (&versions, &suites) {
        check_versions(&section, *versions, &suites.0);
    }
    section.finish();
    let ((cipher_suites, mut not_offered), (curves, other_curves)) = (suites?, curves?);
    let (key, key_file) = key?;
    not_offered.extend(other_curves);
    Ok(TlsServer {
        certificates: certificates?.0,
        key,
        key_file,
        client_auth: client_auth?,
        client_ca: client_ca?.map(|(authorities, _)| authorities).unwrap_or_default(),
        client_allowed_sans: sans?,
        versions: versions?,
        cipher_suites,
        prefer_server_cipher_suites: prefer_server_cipher_suites?.unwrap_or(true),
        curves,
        not_offered,
    })
}

fn missing(section: &Section<'_>, key: &str) -> Reported {
    section.problem(&format!("{key}_file"), format!("is missing: TLS needs {key}_file, or {key} inline"))
}

/// PEM that stands in the file itself or in one that it names, with the path of that one.
fn pem<T>(
    section: &mut Section<'_>,
    [inline, file]: [&'static str; 2],
    meaning: &str,
    what: &str,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Taken<(T, Option<PathBuf>)> {
    let refusal = format!("holds no PEM of {what}");
    let given = section.take_string(inline, meaning, |text| match text {
        "" => Ok(None),
        text => parse(text.as_bytes()).map(|parsed| Some((parsed, None))).ok_or(&refusal),
    });
    // A path is not repeated: a key may stand in its place.
    let path = section.take_path(file, meaning)?;
    let given = given?.flatten();
    let Some(path) = path else { return Ok(given) };
    if given.is_some() {
        return Err(section.problem(file, format!("is given beside {inline}: remove one of them")));
    }
    let bytes = files::read(&path).map_err(|error| section.unread(file, &error))?;
    let Some(parsed) = parse(&bytes) else {
        let is_encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
            .iter()
            .any(|mark| bytes.windows(mark.len()).any(|part| part == *mark));
        let problem = if is_encrypted { "is encrypted: it must be without a passphrase" } else { &refusal };
        return Err(section.problem(file, problem));
    };
    Ok(Some((parsed, Some(path))))
}

fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

/// As Go's toolkit.
fn check_client_auth(section: &Section<'_>, auth: ClientAuth, has_ca: bool, has_sans: bool) {
    if has_ca && auth == ClientAuth::NoClientCert {
        section.problem("client_auth_type", "is missing: with client_ca_file, say RequireAndVerifyClientCert");
    } else if has_sans && !auth.requires() {
        let message = "needs client_auth_type RequireAnyClientCert or RequireAndVerifyClientCert";
        section.problem("client_allowed_sans", message);
    }
}

fn check_versions(section: &Section<'_>, (min, max): (TlsVersion, TlsVersion), suites: &[CipherSuite]) {
    let is_of_13 = |suite: &CipherSuite| suite.as_str().is_some_and(|name| name.starts_with("TLS13_"));
    if min > max {
        section.problem("max_version", "is below min_version");
    } else if max == TlsVersion::Tls12 && !suites.is_empty() && suites.iter().all(is_of_13) {
        section.problem("cipher_suites", "lists suites of TLS 1.3 alone, though max_version is TLS12");
    }
}

fn client_auth(text: &str) -> Result<ClientAuth, &'static str> {
    match text {
        "NoClientCert" | "" => Ok(ClientAuth::NoClientCert),
        "RequestClientCert" => Ok(ClientAuth::RequestClientCert),
        "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::RequireAnyClientCert),
        "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyClientCertIfGiven),
        "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerifyClientCert),
        _ => Err("must be NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or \
                  RequireAndVerifyClientCert"),
    }
}

fn allowed_san(text: &str) -> AllowedSan {
    text.parse().map_or_else(|_| AllowedSan::Text(text.to_owned()), AllowedSan::Ip)
}

fn tls_version(text: &str) -> Result<TlsVersion, &'static str> {
    match text {
        "TLS12" => Ok(TlsVersion::Tls12),
        "TLS13" => Ok(TlsVersion::Tls13),
        "TLS10" | "TLS11" => Err("is deprecated (RFC 8996) and not supported: use TLS12 or TLS13"),
        _ => Err("must be TLS12 or TLS13"),
    }
}

/// What a name stands for, or the name where it is one that is not offered.
fn of_table<T: Copy>(name: &str, table: &[(impl AsRef<str>, T)]) -> Result<Result<T, &'static str>, String> {
    let named = table.iter().find(|(known, _)| known.as_ref() == name).map(|(_, value)| Ok(*value));
    let not_offered = || NOT_OFFERED.iter().find(|known| **known == name).map(|known| Err(*known));
    named.or_else(not_offered).ok_or_else(|| {
        let known: Vec<_> = table.iter().map(|(known, _)| known.as_ref()).collect();
        format!("must be one of those supported: {}", known.join(", "))
    })
}

/// What is offered, and the names of the rest. All where nothing is named; but not where nothing that is named is offered.
fn offered<T>(
    section: &Section<'_>,
    key: &'static str,
    named: Option<Vec<Result<T, &'static str>>>,
) -> Result<(Vec<T>, Vec<&'static str>), Reported> {
    let named = named.unwrap_or_default();
    let others: Vec<_> = named.iter().filter_map(|name| name.as_ref().err().copied()).collect();
    let offered: Vec<T> = named.into_iter().flatten().collect();
    if offered.is_empty() && !others.is_empty() {
        return Err(section.problem(key, "lists no supported value"));
    }
    Ok((offered, others))
}
