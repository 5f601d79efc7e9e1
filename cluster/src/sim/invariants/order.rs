//! Order: a step sums every bucket of every member that makes it up, once, in rank order.

use crate::id::Rank;
use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (applied, _) in record.fresh_applied() {
        let Some(view) = record.view(applied.view) else {
            return Err(format!("node {} trains without a view", applied.node));
        };
        let buckets = |rank: Rank| (0..record.buckets).map(move |bucket| (rank, bucket));
        let Some(ranks) = record.ranks(view, applied.step) else {
            let (node, step) = (applied.node, applied.step);
            return Err(format!(
                "node {node} applies step {step}, which nobody has decided"
            ));
        };
        let expected = ranks.iter().copied().flat_map(buckets);
        let keys = applied.frames.iter().map(|frame| frame.key);
        if !keys.clone().map(|key| (key.rank, key.bucket)).eq(expected) {
            return Err(format!(
                "node {} sums (rank, bucket) {:?} in step {}, which ranks {ranks:?} make up",
                applied.node,
                keys.map(|key| (key.rank, key.bucket)).collect::<Vec<_>>(),
                applied.step,
            ));
        }
        if let Some(key) = keys.clone().find(|key| key.step != applied.step) {
            return Err(format!(
                "node {} sums a frame of step {} in step {}",
                applied.node, key.step, applied.step
            ));
        }
    }
    Ok(())
}
