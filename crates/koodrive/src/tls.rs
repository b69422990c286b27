//! TLS to the API: which certificates are trusted, and until when a connection that they admitted is used.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use crate::error::TransportError;

/// The last second, in Unix time, in which all certificates are good that connections were made with.
#[derive(Debug, Clone)]
pub(crate) struct Expiry(Arc<AtomicU64>);

impl Default for Expiry {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Expiry {
    /// Whether a connection may have outlived a certificate, by the clock by which a new one would be verified.
    pub(crate) fn has_passed(&self) -> bool {
        self.0.load(Ordering::Relaxed) < UnixTime::now().as_secs()
    }
}

/// The settings of connections, and what verifies certificates.
pub(crate) struct Tls {
    config: ClientConfig,
    verifier: Arc<WebPkiServerVerifier>,
}

impl Tls {
    /// With the system's roots (the Mozilla roots built in where the system has none) and these.
    pub(crate) fn new(extra_roots: &[u8]) -> Result<Self, TransportError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        }
        for root in CertificateDer::pem_slice_iter(extra_roots) {
            let root = root.map_err(|_| TransportError::ExtraRoot)?;
            roots.add(root).map_err(|_| TransportError::ExtraRoot)?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|_| TransportError::Client)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| TransportError::Client)?
            .with_webpki_verifier(Arc::clone(&verifier))
            .with_no_client_auth();
        // By HTTP/2, all polls of an origin would share one connection: where it hangs, all of them would, and how many may
        // be in flight would be for the API to say.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session does not look at the certificate again, which may have expired since.
        config.resumption = Resumption::disabled();
        Ok(Self { config, verifier })
    }

    /// The settings of connections whose certificates' expiry is noted.
    pub(crate) fn noting(&self, expiry: Expiry) -> ClientConfig {
        let mut config = self.config.clone();
        let verifier = Verifier { webpki: Arc::clone(&self.verifier), expiry };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        config
    }
}

/// In Unix time.
fn expiry(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// The usual verifier, which also notes when the certificates that it finds good expire.
#[derive(Debug)]
struct Verifier {
    webpki: Arc<WebPkiServerVerifier>,
    expiry: Expiry,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        let expiries = [end_entity].into_iter().chain(intermediates).filter_map(expiry);
        // One that has expired already was not needed.
        for expiry in expiries.filter(|expiry| *expiry >= now.as_secs()) {
            self.expiry.0.fetch_min(expiry, Ordering::Relaxed);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_by_the_clock_of_the_host_and_after_the_last_good_second() {
        for (last_good, has_passed) in [(1, true), (UnixTime::now().as_secs() + 60, false), (u64::MAX, false)] {
            let expiry = Expiry::default();
            expiry.0.fetch_min(last_good, Ordering::Relaxed);
            assert_eq!(expiry.has_passed(), has_passed, "{last_good}");
        }
    }
}
