//! The server's side of TLS, from what the web configuration file says.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::web_config::{AllowedSan, ClientAuth, TlsServer, TlsVersion, WebConfig};

/// Makes the library's configuration.
///
/// # Errors
/// What does not fit together: a key of another certificate, say.
pub(crate) fn server_config(settings: &TlsServer, http2: bool) -> Result<ServerConfig, Error> {
    let provider = Arc::new(provider(settings));
    let versions: Vec<_> = [(TlsVersion::Tls13, &TLS13), (TlsVersion::Tls12, &TLS12)]
        .into_iter()
        .filter(|(version, _)| (settings.versions.0..=settings.versions.1).contains(version))
        .map(|(_, version)| version)
        .collect();
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(client_verifier(settings, &provider)?)
        .with_single_cert(settings.certificates.clone(), settings.key.clone_key())?;
    if settings.client_auth != ClientAuth::NoClientCert {
        // A resumed session does not look at the client's certificate again, which may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.ignore_client_order = settings.prefer_server_cipher_suites;
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    Ok(config)
}

impl WebConfig {
    /// When the server's certificate expires, in Unix time. The others in its file help a client find a root, by more than one
    /// way at times, so one of them may expire without harm.
    #[must_use]
    pub fn certificate_expiry(&self) -> Option<i64> {
        expiry(self.tls.as_ref()?.certificates.first()?)
    }
}

/// When a certificate expires, in Unix time.
pub(crate) fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// `ring`'s suites and groups, as far as the settings want them and in their order. Those of TLS 1.3 stay.
fn provider(settings: &TlsServer) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !settings.cipher_suites.is_empty() {
        let (of_13, of_12): (Vec<_>, Vec<_>) =
            provider.cipher_suites.into_iter().partition(|suite| suite.tls13().is_some());
        let named = settings.cipher_suites.iter();
        let wanted =
            named.filter_map(|wanted| of_12.iter().find(|suite: &&SupportedCipherSuite| suite.suite() == *wanted));
        provider.cipher_suites = of_13.into_iter().chain(wanted.copied()).collect();
    }
    if !settings.curves.is_empty() {
        let groups = provider.kx_groups;
        let wanted = settings.curves.iter().filter_map(|wanted| groups.iter().find(|group| group.name() == *wanted));
        provider.kx_groups = wanted.copied().collect();
    }
    provider
}

fn client_verifier(settings: &TlsServer, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    if settings.client_auth == ClientAuth::NoClientCert {
        return Ok(Arc::new(NoClientAuth));
    }
    Ok(Arc::new(ClientVerifier {
        mandatory: settings.client_auth.requires(),
        authorities: settings.client_auth.verifies().then(|| authorities(settings, provider)).transpose()?,
        allowed: settings.client_allowed_sans.clone(),
        algorithms: provider.signature_verification_algorithms,
    }))
}

fn authorities(settings: &TlsServer, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for root in &settings.client_ca {
        roots.add(root.clone())?;
    }
    if roots.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|error| Error::General(error.to_string()))
}

/// Takes the certificate of a client that has its key, if its authority and its names are right where that is asked.
#[derive(Debug)]
struct ClientVerifier {
    mandatory: bool,
    /// Without them, any authority is taken.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    /// Without them, any name is taken.
    allowed: Option<Vec<AllowedSan>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.as_ref().map_or(&[], |authorities| authorities.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            authorities.verify_client_cert(certificate, intermediates, now)?;
        }
        match &self.allowed {
            Some(allowed) if !names(certificate).iter().any(|name| allowed.contains(name)) => {
                Err(Error::General("the client's certificate has none of client_allowed_sans".to_owned()))
            }
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The subject alternative names (RFC 5280, section 4.2.1.6) that the toolkit compares, too.
fn names(certificate: &CertificateDer<'_>) -> Vec<AllowedSan> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            Some(AllowedSan::Text((*text).to_owned()))
        }
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(AllowedSan::Ip([a, b, c, d].into())),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| AllowedSan::Ip(bytes.into())),
        },
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
