//! From values to places: ranges, round numbers, logarithms.

/// One axis of a panel.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The range, in logarithms if the axis is logarithmic.
    low: f64,
    high: f64,
    log: bool,
    start: f64,
    end: f64,
}

/// About so many ticks an axis.
const TICKS: f64 = 6.0;
/// This share of the range is left free at its ends.
const MARGIN: f64 = 0.03;

impl Axis {
    /// An axis over all values that have a place on it, from `start` to `end` on the page.
    pub(super) fn new(values: impl Iterator<Item = f64>, log: bool, start: f64, end: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter_map(|value| scaled(value, log)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if high - low < 1e-9 * high.abs().max(1e-9) {
            (low, high) = (low - 0.5, high + 0.5);
        }
        // Lines keep clear of the frame, but where zero is near it is the frame.
        let margin = MARGIN * (high - low);
        let from_zero = !log && low >= 0.0 && low < 0.25 * high;
        low = if from_zero { 0.0 } else { low - margin };
        high += margin;
        Self {
            low,
            high,
            log,
            start,
            end,
        }
    }

    /// Where a value is on the page; nowhere if it is not finite, or not positive on a logarithmic
    /// axis.
    pub(super) fn place(&self, value: f64) -> Option<f64> {
        let share = (scaled(value, self.log)? - self.low) / (self.high - self.low);
        let place = self.start + share * (self.end - self.start);
        place.is_finite().then_some(place)
    }

    /// Places and labels of the ticks.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let ticks = if self.log {
            self.log_ticks()
        } else {
            linear_ticks(self.low, self.high)
        };
        let labelled = |tick: Tick| Some((self.place(tick.value)?, tick.label()));
        ticks.into_iter().filter_map(labelled).collect()
    }

    /// Powers of ten; with 2 and 5 between them where there are few; and where even these are few,
    /// as on a linear axis.
    fn log_ticks(&self) -> Vec<Tick> {
        let powers = self.log_ticks_with(&[1.0]);
        if powers.len() > 3 {
            return powers;
        }
        let with_parts = self.log_ticks_with(&[1.0, 2.0, 5.0]);
        if with_parts.len() > 2 {
            return with_parts;
        }
        linear_ticks(10_f64.powf(self.low), 10_f64.powf(self.high))
    }

    /// These factors times powers of ten, or times every so many of them in a wide range.
    fn log_ticks_with(&self, factors: &[f64]) -> Vec<Tick> {
        let stride = ((self.high - self.low) / TICKS).round().max(1.0);
        let first = (self.low / stride).floor() * stride;
        let powers = (first as i32..=self.high.ceil() as i32).step_by(stride as usize);
        let values = powers.flat_map(|d| factors.iter().map(move |f| f * 10_f64.powi(d)));
        values
            .filter(|value| (self.low..=self.high).contains(&value.log10()))
            .map(|value| Tick {
                value,
                step: value,
                largest: value,
            })
            .collect()
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn linear_ticks(low: f64, high: f64) -> Vec<Tick> {
    let rough = (high - low) / TICKS;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let step = factors
        .iter()
        .map(|f| f * magnitude)
        .find(|step| *step >= rough / 1.5);
    let step = step.unwrap_or(rough);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let largest = low.abs().max(high.abs());
    (first..=last)
        .map(|i| Tick {
            value: i as f64 * step,
            step,
            largest,
        })
        .collect()
}

fn scaled(value: f64, log: bool) -> Option<f64> {
    let scaled = if log { value.log10() } else { value };
    scaled.is_finite().then_some(scaled)
}

/// A place with a label.
#[derive(Clone, Copy, Debug)]
struct Tick {
    value: f64,
    /// The distance to its neighbours: so exact must its label be.
    step: f64,
    /// The largest magnitude among those that share its unit.
    largest: f64,
}

impl Tick {
    /// The number with as many digits as tell it from its neighbours, and a unit prefix.
    fn label(self) -> String {
        let Self {
            value,
            step,
            largest,
        } = self;
        let (divisor, unit) = match largest {
            m if m >= 1e12 => (1e12, "T"),
            m if m >= 1e9 => (1e9, "G"),
            m if m >= 1e6 => (1e6, "M"),
            m if m >= 1e4 => (1e3, "k"),
            _ => (1.0, ""),
        };
        if value == 0.0 {
            return "0".to_owned();
        }
        if largest < 1e-3 {
            let digits = (exponent(value) - exponent(step)).max(0);
            return format!("{value:.*e}", digits as usize);
        }
        let decimals = (-exponent(step / divisor)).max(0);
        format!("{:.*}{unit}", decimals as usize, value / divisor)
    }
}

/// The power of ten below a number other than zero.
fn exponent(value: f64) -> i32 {
    (value.abs().log10() + 1e-9).floor() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(low: f64, high: f64, log: bool) -> Vec<String> {
        let axis = Axis::new([low, high].into_iter(), log, 0.0, 100.0);
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        for (low, high, expected) in [
            (0.0, 1.0, "0 0.2 0.4 0.6 0.8 1.0"),
            (90.0, 101.0, "90 92 94 96 98 100"),
            (0.0, 15e3, "0 2k 4k 6k 8k 10k 12k 14k"),
            (0.0, 3e6, "0 0.5M 1.0M 1.5M 2.0M 2.5M 3.0M"),
            (0.9681, 0.9692, "0.9682 0.9684 0.9686 0.9688 0.9690 0.9692"),
            (0.0, 2.5e-4, "0 5e-5 1.0e-4 1.5e-4 2.0e-4 2.5e-4"),
            (-1.0, 1.0, "-1.0 -0.5 0 0.5 1.0"),
        ] {
            assert_eq!(labels(low, high, false).join(" "), expected);
        }
    }

    #[test]
    fn logarithmic_ticks_fit_wide_and_narrow_ranges() {
        for (low, high, expected) in [
            (0.01, 1.0, "0.01 0.02 0.05 0.1 0.2 0.5 1"),
            (1.0, 1e6, "1 10 100 1000 10k 100k 1M"),
            (1e-6, 1e6, "1e-6 1e-4 0.01 1 100 10k 1M"),
            (2.1, 2.9, "2.1 2.2 2.3 2.4 2.5 2.6 2.7 2.8 2.9"),
        ] {
            assert_eq!(labels(low, high, true).join(" "), expected);
        }
    }

    proptest! {
        /// However wide or far from zero a range is, its ticks are few, inside and distinct.
        #[test]
        fn ticks_are_few_inside_and_distinct(
            low in -1e9_f64..1e9,
            exponent in -6_f64..12.0,
            log: bool,
        ) {
            let low = if log { low.abs() + 1e-3 } else { low };
            let high = low + 10_f64.powf(exponent).max(1e-6 * low.abs());
            let axis = Axis::new([low, high].into_iter(), log, 0.0, 100.0);
            let ticks = axis.ticks();
            prop_assert!((3..=12).contains(&ticks.len()), "{ticks:?}");
            for (place, label) in &ticks {
                prop_assert!((0.0..=100.0).contains(place), "{ticks:?}");
                let same = ticks.iter().filter(|(_, other)| other == label).count();
                prop_assert_eq!(same, 1, "{:?}", ticks);
            }
        }
    }

    #[test]
    fn one_value_or_none_still_makes_an_axis() {
        assert!(!labels(5.0, 5.0, false).is_empty());
        assert!(!labels(f64::NAN, f64::NAN, false).is_empty());
        let axis = Axis::new([1.0, 100.0].into_iter(), true, 0.0, 100.0);
        assert_eq!(axis.place(10.0), Some(50.0));
        assert_eq!(axis.place(0.0), None);
    }
}
