//! Links that break, stall and lie, by a proxy between processes that are all well. Who is only cut off
//! for a moment costs a view of the same members, and the run ends with the bits of one that nothing has
//! disturbed.

mod harness;

use harness::{Cluster, Program, Proxy, Way, directory, ecq, end_well, views};
use serde_json::Value;

/// Small steps, so that much happens in little time, and leases that end soon.
const RUN: [&str; 12] = [
    "-n",
    "3",
    "--model",
    "softmax",
    "--run-dir",
    "run",
    "--lease-seconds",
    "2",
    "--digest-every",
    "100",
    "--name",
    "x",
];

/// Three nodes that train, the first of which is reached through the proxy.
fn cluster(proxy: &Proxy, steps: &str) -> (Cluster, Vec<Program>) {
    let mut cluster = Cluster::start(&[&RUN[..], &["--steps", steps]].concat());
    let mut nodes = vec![cluster.node(&["--advertise", &proxy.address()])];
    proxy.lead_to_node(&mut nodes[0]);
    nodes.extend((1..3).map(|_| cluster.node(&[])));
    cluster.until("view 1: 3 members train");
    // There are connections, and they carry frames.
    proxy.stall_after(Way::There, 5000);
    proxy.until_stalled();
    proxy.heal();
    (cluster, nodes)
}

/// The run has completed, in views of the same three members, as if nothing had happened.
fn ends_as_undisturbed(mut cluster: Cluster, nodes: Vec<Program>, number: usize, steps: &str) {
    let (ended, found) = cluster.completes();
    let views = views(&cluster.run());
    assert!(views.len() >= number, "{}", ended.stderr);
    assert!(
        views.iter().all(|view| view.nodes == views[0].nodes),
        "{views:?}"
    );
    let dir = directory();
    let undisturbed = ecq(
        dir.path(),
        &[&["launch", "--json", "--steps", steps][..], &RUN].concat(),
    );
    let expected: Value = serde_json::from_str(&undisturbed.stdout).expect("it is JSON");
    assert_eq!(found["replica_digest"], expected["replica_digest"]);
    end_well(nodes);
}

#[test]
fn damaged_bytes_cost_a_view_and_no_bit() {
    let proxy = Proxy::start();
    let (mut cluster, nodes) = cluster(&proxy, "3000");
    for view in ["view 2: 3 members train", "view 3: 3 members train"] {
        proxy.damage();
        cluster.until("their streams are opened anew");
        cluster.until(view);
    }
    ends_as_undisturbed(cluster, nodes, 3, "3000");
}

#[test]
fn a_link_that_is_cut_for_a_moment_costs_a_view_and_no_bit() {
    let proxy = Proxy::start();
    let (mut cluster, nodes) = cluster(&proxy, "3000");
    proxy.cut();
    proxy.heal();
    cluster.until("view 2: 3 members train");
    ends_as_undisturbed(cluster, nodes, 2, "3000");
}

/// Nothing tells a link that has stalled from one that is idle but the probes of its connections, and what
/// it lets through in the end belongs to a view that is over.
#[test]
fn a_link_that_stalls_costs_a_view_and_no_bit() {
    let proxy = Proxy::start();
    let (mut cluster, nodes) = cluster(&proxy, "3000");
    proxy.stall();
    cluster.until("their streams are opened anew");
    proxy.heal();
    cluster.until("view 2: 3 members train");
    ends_as_undisturbed(cluster, nodes, 2, "3000");
}

/// T20: the others go on without who cannot be reached, and it comes back when it can.
#[test]
fn who_is_cut_off_is_left_out_until_its_link_heals() {
    let proxy = Proxy::start();
    let (mut cluster, mut nodes) = cluster(&proxy, "20000");
    proxy.cut();
    cluster.until("2 members train");
    nodes[0].until(|line| line.contains("trying to come back").then_some(()));
    proxy.lead_to_node(&mut nodes[0]);
    proxy.heal();
    cluster.until("3 members train");
    cluster.completes();
    end_well(nodes);
}

/// A member that the coordinator does not hear costs its lease; what it was told meanwhile it hears late.
#[test]
fn a_stalled_session_costs_its_lease() {
    let proxy = Proxy::start();
    let mut cluster = Cluster::start(&[&RUN[..], &["--steps", "20000"]].concat());
    proxy.lead_to(cluster.address());
    let mut nodes: Vec<Program> = (1..3).map(|_| cluster.node(&[])).collect();
    let mut stalled = cluster.node_by(&proxy.address(), &[]);
    cluster.until("view 1: 3 members train");
    proxy.stall();
    cluster.until("nothing was heard from it");
    cluster.until("2 members train");
    proxy.heal();
    stalled.until(|line| line.contains("trying to come back").then_some(()));
    cluster.until("3 members train");
    nodes.push(stalled);
    cluster.completes();
    end_well(nodes);
}
