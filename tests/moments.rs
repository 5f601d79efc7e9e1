//! Deaths at chosen moments: in the middle of a frame, of a snapshot, of a change of view, of the delivery.
//! A proxy holds a link at a certain byte until whoever was sending or receiving it is dead.

mod harness;

use harness::{Cluster, Program, Proxy, Way, directory, ecq, end_well, names, views};
use serde_json::Value;

/// Small steps, all of them recorded, and an end that is not far.
const SMALL: [&str; 7] = [
    "--model",
    "softmax",
    "--digest-every",
    "50",
    "--steps",
    "1000",
    "--record",
];

fn cluster(args: &[&[&str]]) -> Cluster {
    let fixed = ["--run-dir", "run", "--name", "x", "--lease-seconds", "2"];
    Cluster::start(&[&fixed, &args.concat()[..]].concat())
}

/// A node that writes its part of the record, reached through the proxy.
fn recorder_behind(proxy: &Proxy, cluster: &Cluster) -> Program {
    let mut node = cluster.recorder(&["--advertise", &proxy.address()]);
    proxy.lead_to_node(&mut node);
    node
}

/// Each rank dies before, during and after its broadcast: at a byte of a frame on its way to another member.
#[test]
fn whoever_dies_in_the_middle_of_a_frame_costs_nobody_else_anything() {
    let dir = directory();
    let launch = ["launch", "-n", "3", "--run-dir", "run", "--json"];
    let ended = ecq(dir.path(), &[&launch[..], &SMALL].concat());
    let undisturbed: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    let accuracy = |summary: &Value| summary["test_accuracy"].as_f64().expect("a number");
    for (victim, bytes) in [(0, 3), (1, 40), (2, 500), (0, 2000), (1, 2121), (2, 7001)] {
        let proxy = Proxy::start();
        let mut cluster = cluster(&[&["-n", "3"], &SMALL]);
        let behind = (victim + 1) % 3;
        let mut nodes: Vec<Program> = Vec::new();
        for rank in 0..3 {
            nodes.push(match rank == behind {
                true => recorder_behind(&proxy, &cluster),
                false => cluster.recorder(&[]),
            });
            let joined = format!("{} of 3", rank + 1);
            if rank < 2 {
                cluster.until(&joined);
            }
        }
        cluster.until("view 1: 3 members train");
        proxy.stall_after(Way::There, bytes);
        proxy.until_stalled();
        let killed = nodes.remove(victim);
        killed.signal("KILL");
        killed.finish();
        proxy.heal();
        let (_, summary) = cluster.completes();
        cluster.is_proved();
        assert!(views(&cluster.run()).len() >= 2);
        let (found, expected) = (accuracy(&summary), accuracy(&undisturbed));
        assert!((found - expected).abs() < 0.03, "{found}, not {expected}");
        end_well(nodes);
    }
}

#[test]
fn another_dies_while_the_view_changes() {
    let mut cluster = cluster(&[&["-n", "4"], &SMALL]);
    let mut nodes = cluster.recorders(4);
    nodes.remove(1).signal("KILL");
    cluster.until("is lost");
    nodes.remove(2).signal("KILL");
    cluster.completes();
    cluster.is_proved();
    end_well(nodes);
}

/// A replica of more than a megabyte, so that there is a middle to stop at.
const LARGE: [&str; 6] = [
    "--hidden",
    "512,256",
    "--batch-size",
    "8",
    "--digest-every",
    "10",
];

/// The member that was asked for a snapshot dies with half of it sent: another gives it.
#[test]
fn a_donor_dies_in_the_middle_of_its_snapshot() {
    let proxy = Proxy::start();
    let counts = ["-n", "3", "--min-nodes", "2", "--steps", "60", "--record"];
    let mut cluster = cluster(&[&counts, &LARGE]);
    let mut nodes = vec![cluster.recorder(&[])];
    cluster.until("1 of 3");
    nodes.push(cluster.recorder(&[]));
    cluster.until("2 of 3");
    nodes.push(recorder_behind(&proxy, &cluster));
    cluster.until("view 1: 3 members train");
    nodes.remove(0).signal("KILL");
    cluster.until("view 2: 2 members train");
    // The last in rank is asked first.
    proxy.stall_after(Way::Back, 600_000);
    nodes.push(cluster.recorder(&[]));
    proxy.until_stalled();
    let donor = nodes.remove(1);
    donor.signal("KILL");
    donor.finish();
    proxy.heal();
    cluster.until("1 of at least 2 are there");
    cluster.until("2 members train");
    cluster.completes();
    cluster.is_proved();
    end_well(nodes);
}

/// Its first view is stored, one node never hears of it and the other dies with the coordinator: nobody has made a step,
/// and both come as new nodes.
#[test]
fn a_coordinator_dies_before_its_first_view_is_heard_of() {
    let dir = directory();
    let launch = ["launch", "-n", "2", "--run-dir", "run", "--json"];
    let undisturbed = ecq(dir.path(), &[&launch[..], &SMALL].concat());
    let undisturbed: Value = serde_json::from_str(&undisturbed.stdout).expect("it is JSON");
    let proxy = Proxy::start();
    let fixed = ["-n", "2", "--run-dir", "run", "--name", "x"];
    let mut cluster = Cluster::start(&[&fixed[..], &SMALL].concat());
    proxy.lead_to(cluster.address());
    let mut first = cluster.node_by(&proxy.address(), &["--record-dir", "run/record"]);
    first.until(|line| line.contains("waiting for the other nodes").then_some(()));
    // Less than the view, and more than a sign of life.
    proxy.stall_after(Way::Back, 40);
    let second = cluster.recorder(&[]);
    cluster.until("view 1: 2 members train");
    proxy.until_stalled();
    cluster.kill_coordinator();
    second.signal("KILL");
    second.finish();
    proxy.cut();
    cluster.resume();
    cluster.until("or for 2 nodes to begin anew: 0 are ready");
    proxy.heal();
    let nodes = vec![first, cluster.recorder(&[])];
    let (_, summary) = cluster.completes();
    cluster.is_proved();
    assert_eq!(summary["replica_digest"], undisturbed["replica_digest"]);
    assert_eq!(summary["residuals_lost"], 0);
    let views = views(&cluster.run());
    assert!(views.len() == 2 && views[1].first_step == 0, "{views:?}");
    end_well(nodes);
}

#[test]
fn a_coordinator_dies_in_the_middle_of_the_delivery() {
    let proxy = Proxy::start();
    let mut cluster = cluster(&[&["-n", "2", "--steps", "20"], &LARGE]);
    proxy.lead_to(cluster.address());
    // More than all words, and less than the model.
    proxy.stall_after(Way::There, 400_000);
    let mut nodes = vec![cluster.node_by(&proxy.address(), &[])];
    cluster.until("1 of 2");
    nodes.push(cluster.node(&[]));
    proxy.until_stalled();
    cluster.kill_coordinator();
    proxy.heal();
    cluster.resume();
    let (ended, _) = cluster.completes();
    assert!(
        ended.stderr.contains("a member is back"),
        "{}",
        ended.stderr
    );
    let left = names(&cluster.run());
    assert!(left.contains(&"model.safetensors".to_owned()), "{left:?}");
    assert!(
        left.iter().all(|name| !name.ends_with(".partial")),
        "{left:?}"
    );
    end_well(nodes);
}

/// Two go and two come at a time, one of each in order and one not, before anybody has settled.
#[test]
fn a_storm_of_departures_and_arrivals_passes() {
    // Whoever is drawn next, from a seed.
    let mut state = 7_u32;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) as usize % below
    };
    let mut cluster = cluster(&[&["-n", "4", "--min-nodes", "4"], &SMALL]);
    let mut nodes: Vec<Program> = (0..4).map(|_| cluster.recorder(&[])).collect();
    cluster.until("4 members train");
    for _ in 0..4 {
        let leaver = nodes.remove(draw(4));
        leaver.signal("TERM");
        let killed = nodes.remove(draw(3));
        killed.signal("KILL");
        nodes.extend((0..2).map(|_| cluster.recorder(&[])));
        let ended = leaver.finish();
        assert_eq!(ended.code(), Some(143), "{}", ended.stderr);
        killed.finish();
        cluster.until("4 members train");
    }
    cluster.completes();
    cluster.is_proved();
    assert!(views(&cluster.run()).len() >= 5);
    end_well(nodes);
}
