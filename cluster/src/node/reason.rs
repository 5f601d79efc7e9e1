//! What the node is doing or waiting for, in words.

use super::{Command, Node, Phase};

impl Node {
    pub(super) fn explain(&mut self, out: &mut Vec<Command>) {
        let reason = match &self.phase {
            Phase::Greeting => "waiting for the coordinator's welcome".to_owned(),
            Phase::Preparing => "loading data and initialising the replica".to_owned(),
            Phase::Ready => "waiting for the other nodes".to_owned(),
            Phase::Following(place, follow) if follow.fetched => {
                format!("following view {} with a snapshot", place.view.number)
            }
            Phase::Following(place, _) => {
                format!(
                    "following view {}: waiting for a snapshot",
                    place.view.number
                )
            }
            Phase::Linking(place) => {
                format!(
                    "view {}: connecting to the other members",
                    place.view.number
                )
            }
            Phase::Training(place) if place.frozen => {
                format!("view {} ends: standing still", place.view.number)
            }
            Phase::Training(place) if self.has_flushed() => {
                format!(
                    "view {}: leaving, with nothing kept back",
                    place.view.number
                )
            }
            Phase::Training(place) if place.hold => {
                format!("view {}: waiting for more members", place.view.number)
            }
            Phase::Training(place) => {
                let rank = place.view.rank_of(self.id).unwrap_or_default();
                format!(
                    "view {}: training as rank {rank} of {}",
                    place.view.number,
                    place.view.size()
                )
            }
            Phase::Finishing(_) => "all steps are applied, waiting for the others".to_owned(),
            Phase::Over => return,
        };
        let reason = match self.away {
            true => format!("{reason}, without the coordinator"),
            false => reason,
        };
        if reason != self.reason {
            self.reason.clone_from(&reason);
            out.push(Command::Explain(reason));
        }
    }
}
