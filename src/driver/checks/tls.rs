//! TLS for `https`: whom to believe, and the handshake.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

use super::{Failure, Unable};

/// Where distributions keep the certificates of those whom everybody believes: Debian, Fedora, SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whom to believe that it is the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Who has a certificate of one whom the system believes.
    System,
    /// Who has a certificate of one in this file, or this certificate itself if it is for itself.
    File(PathBuf),
    /// Anybody: that something answers is enough.
    Anybody,
}

impl Trust {
    /// Whether there is what it needs.
    pub(super) fn inspect(&self) -> Result<(), Unable> {
        self.config().map(drop)
    }

    fn config(&self) -> Result<ClientConfig, Unable> {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match self {
            Self::System => {
                let bundle = BUNDLES.iter().map(Path::new).find(|path| path.exists());
                let bundle = bundle.ok_or_else(|| Unable {
                    problem: "this system has no list of certificate authorities".to_owned(),
                    remedy: "install ca-certificates, name a file in `ca`, or write `verify = false`",
                })?;
                verifier(bundle, &provider)?
            }
            Self::File(path) => verifier(path, &provider)?,
            Self::Anybody => Arc::new(Credulous(Arc::clone(&provider))),
        };
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| unable(format!("TLS: {error}")))?;
        Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
    }

    /// A stream on which the handshake is made by the first use.
    pub(super) fn wrap<S: Read + Write>(
        &self,
        stream: S,
        host: &str,
    ) -> Result<StreamOwned<ClientConnection, S>, Failure> {
        let name = server_name(host)
            .ok_or_else(|| Failure::Unable(format!("{host} is no name that a certificate can have")))?;
        let connection = ClientConnection::new(Arc::new(self.config()?), name)
            .map_err(|error| Failure::Unable(format!("TLS: {error}")))?;
        Ok(StreamOwned::new(connection, stream))
    }
}

/// The name or the address that a certificate must be for: a `Host` header without its port.
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            port.bytes().all(|c| c.is_ascii_digit()).then_some(name)?
        }
        _ => host,
    };
    let plain = without_port.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(without_port);
    ServerName::try_from(plain.to_owned()).ok()
}

fn unable(problem: String) -> Unable {
    Unable { problem, remedy: "name a file with PEM certificates that the agent may read" }
}

fn verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Unable> {
    let shown = path.display();
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unable(format!("`{shown}` cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
    if added == 0 {
        return Err(unable(format!("`{shown}` has no certificate")));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    let verifier = verifier.map_err(|error| unable(format!("`{shown}`: {error}")))?;
    Ok(Arc::new(Pinning { certificates, verifier }))
}

/// Believes a certificate that is itself in the file, as one that a server has made for itself; and others as usual.
#[derive(Debug)]
struct Pinning {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Pinning {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let usual = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        usual.or_else(|error| {
            // Its place in the file says more than its names and dates.
            let is_pinned = self.certificates.iter().any(|it| it.as_ref() == end_entity.as_ref());
            if is_pinned { Ok(ServerCertVerified::assertion()) } else { Err(error) }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Believes anybody.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_a_certificate() {
        let name = |host| server_name(host).map(|name| name.to_str().into_owned());
        assert_eq!(name("www.example.com").as_deref(), Some("www.example.com"));
        assert_eq!(name("www.example.com:8443").as_deref(), Some("www.example.com"));
        assert_eq!(name("127.0.0.1:443").as_deref(), Some("127.0.0.1"));
        assert_eq!(name("[::1]:443").as_deref(), Some("::1"));
        assert_eq!(name("::1").as_deref(), Some("::1"));
        assert_eq!(name("a b"), None);
    }
}
