//! Streams that broke between members that are both alive.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::view::View;

/// A link is opened anew, by a new view of the same members, so many times. Then one of its ends
/// has to go.
const STRIKES: u32 = 3;

/// How often each link has broken since all replicas agreed for the last time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    strikes: BTreeMap<(NodeId, NodeId), u32>,
}

impl Links {
    /// Notes a broken link of the view; says which member is to be left out, if it broke too often:
    /// the one with more broken links, or the higher rank.
    pub(crate) fn strike(&mut self, view: &View, one: NodeId, other: NodeId) -> Option<NodeId> {
        let link = (one.min(other), one.max(other));
        let strikes = self.strikes.entry(link).or_default();
        *strikes += 1;
        if *strikes < STRIKES {
            return None;
        }
        let total = |node: NodeId| -> u32 {
            let of_node = |((a, b), _): &(&(NodeId, NodeId), &u32)| *a == node || *b == node;
            self.strikes.iter().filter(of_node).map(|(_, n)| n).sum()
        };
        [one, other]
            .into_iter()
            .max_by_key(|node| (total(*node), view.rank_of(*node)))
    }

    /// The members exchange again.
    pub(crate) fn heal(&mut self) {
        self.strikes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Member;

    #[test]
    fn a_link_that_keeps_breaking_costs_the_member_with_more_of_them() {
        let member = |node| Member {
            node,
            address: String::new(),
        };
        let view = View {
            number: 1,
            first_step: 0,
            consumed: 0,
            members: [5, 6, 7].map(member).to_vec(),
        };
        let mut links = Links::default();
        assert_eq!(links.strike(&view, 6, 7), None);
        assert_eq!(links.strike(&view, 7, 6), None);
        assert_eq!(links.strike(&view, 7, 6), Some(7), "the higher rank");
        assert_eq!(links.strike(&view, 5, 6), None);
        assert_eq!(links.strike(&view, 7, 6), Some(6), "it has more of them");
        links.heal();
        assert_eq!(links.strike(&view, 6, 7), None);
    }
}
