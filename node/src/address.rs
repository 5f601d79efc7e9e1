//! Addresses of nodes: as they are given, and as others can use them.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::Options;
use crate::error::NodeError;

/// `host:port` under which other members reach this node.
pub(crate) async fn advertised(options: &Options, port: u16) -> Result<String, NodeError> {
    match &options.advertise {
        Some(address) if has_port(address) => Ok(address.clone()),
        Some(host) => Ok(format!("{host}:{port}")),
        None if !options.listen.ip().is_unspecified() => {
            Ok(SocketAddr::new(options.listen.ip(), port).to_string())
        }
        None => {
            let host = own_address(&options.coordinator).await?;
            Ok(SocketAddr::new(host, port).to_string())
        }
    }
}

/// Whether an address ends with a port; an IPv6 address without brackets does not.
pub(crate) fn has_port(address: &str) -> bool {
    let host_ends = address.rfind(']').unwrap_or(0);
    let port = address[host_ends..].rsplit_once(':').map(|(_, port)| port);
    let bare_ipv6 = host_ends == 0 && address.matches(':').count() > 1;
    !bare_ipv6 && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// The address from which this machine reaches `coordinator`: what other members most likely reach
/// it under. Nothing is sent.
async fn own_address(coordinator: &str) -> Result<IpAddr, NodeError> {
    let unreachable = |error: std::io::Error| NodeError::Unreachable {
        address: coordinator.to_owned(),
        reason: error.to_string(),
    };
    let mut found = tokio::net::lookup_host(coordinator)
        .await
        .map_err(unreachable)?;
    let target = found
        .next()
        .ok_or_else(|| NodeError::Address(coordinator.to_owned()))?;
    let any: IpAddr = if target.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0; 16].into()
    };
    let probe = UdpSocket::bind((any, 0)).map_err(unreachable)?;
    probe.connect(target).map_err(unreachable)?;
    Ok(probe.local_addr().map_err(unreachable)?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_from_addresses() {
        for address in ["host:1", "10.0.0.1:80", "[::1]:80"] {
            assert!(has_port(address), "{address}");
        }
        for address in ["host", "10.0.0.1", "::1", "[::1]", "host:http"] {
            assert!(!has_port(address), "{address}");
        }
    }
}
