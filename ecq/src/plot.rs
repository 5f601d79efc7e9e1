//! Plots as SVG: panels side by side, lines with bands, one legend. Written by hand, readable in
//! light and dark, without fonts, scripts or anything from elsewhere.

mod axis;

use std::fmt::Write as _;

use axis::Axis;

/// A figure.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Above all panels.
    pub title: String,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Below the horizontal axis.
    pub x_label: String,
    /// Beside the vertical axis.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic.
    pub x_log: bool,
    /// Whether the vertical axis is logarithmic.
    pub y_log: bool,
    /// The lines; those with the same name in other panels share colour and legend.
    pub lines: Vec<Line>,
}

/// A line with a band around it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// In order of x.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Horizontal position.
    pub x: f64,
    /// Vertical position.
    pub y: f64,
    /// Lower edge of the band.
    pub low: f64,
    /// Upper edge of the band.
    pub high: f64,
}

const PANEL_WIDTH: f64 = 460.0;
const PANEL_HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 48.0;
const BELOW: f64 = 52.0;
const LEGEND_LINE: f64 = 20.0;
/// Told apart by people who do not see all colours (Okabe and Ito), and on black as on white.
const COLOURS: [&str; 8] = [
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6bb1", "#999999",
];

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}\
.title{font-size:16px;font-weight:600}.grid{stroke:#8884;stroke-width:1}\
.frame{stroke:#8889;fill:none}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}\
.band{stroke:none;opacity:.18}.ground{fill:#fff}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.ground{fill:#16181c}}";

impl Figure {
    /// The figure as the text of an SVG file.
    pub fn to_svg(&self) -> String {
        let names = self.names();
        let columns = 2.max(self.panels.len());
        let legend_rows = names.len().div_ceil(columns);
        let width = (LEFT + PANEL_WIDTH + RIGHT) * self.panels.len() as f64;
        let legend_top = TOP + PANEL_HEIGHT + BELOW;
        let height = legend_top + LEGEND_LINE * legend_rows as f64 + 12.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"28\">{title}</text>\n",
            title = escape(&self.title),
        );
        for (i, panel) in self.panels.iter().enumerate() {
            panel.draw(
                (LEFT + PANEL_WIDTH + RIGHT) * i as f64 + LEFT,
                &names,
                &mut svg,
            );
        }
        let column_width = (width - LEFT) / columns as f64;
        for (i, name) in names.iter().enumerate() {
            let x = LEFT + column_width * (i % columns) as f64;
            let y = legend_top + LEGEND_LINE * (i / columns) as f64 + 8.0;
            // Writing to a String cannot fail.
            let _ = writeln!(
                svg,
                "<path class=\"line\" {} d=\"M{x:.1} {:.1}h24\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                stroke(i),
                y - 4.0,
                x + 32.0,
                escape(name),
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The names of all lines, in order of appearance.
    fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for line in self.panels.iter().flat_map(|panel| &panel.lines) {
            if !names.contains(&line.name.as_str()) {
                names.push(line.name.as_str());
            }
        }
        names
    }
}

impl Panel {
    fn draw(&self, left: f64, names: &[&str], svg: &mut String) {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::new(points().map(|p| p.x), self.x_log, left, left + PANEL_WIDTH);
        let edges = points().flat_map(|p| [p.low, p.y, p.high]);
        let y = Axis::new(edges, self.y_log, TOP + PANEL_HEIGHT, TOP);
        let bottom = TOP + PANEL_HEIGHT;
        for (at, label) in x.ticks() {
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 18.0,
            );
        }
        for (at, label) in y.ticks() {
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{left:.1} {at:.1}h{PANEL_WIDTH}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 8.0,
                at + 4.0,
            );
        }
        let (middle, centre) = (left + PANEL_WIDTH / 2.0, TOP + PANEL_HEIGHT / 2.0);
        let _ = writeln!(
            svg,
            "<rect class=\"frame\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{PANEL_WIDTH}\" \
             height=\"{PANEL_HEIGHT}\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate({:.1} {centre:.1})rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            bottom + 38.0,
            escape(&self.x_label),
            left - 48.0,
            escape(&self.y_label),
        );
        for line in &self.lines {
            let index = names
                .iter()
                .position(|name| *name == line.name)
                .unwrap_or(0);
            line.draw(&x, &y, index, svg);
        }
    }
}

impl Line {
    fn draw(&self, x: &Axis, y: &Axis, index: usize, svg: &mut String) {
        let place = |point: &Point, value: f64| Some((x.place(point.x)?, y.place(value)?));
        let path = |places: Vec<(f64, f64)>| {
            let texts = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}"));
            texts.collect::<Vec<_>>().join("L")
        };
        let upper = self.points.iter().filter_map(|p| place(p, p.high));
        let lower = self.points.iter().rev().filter_map(|p| place(p, p.low));
        let band: Vec<_> = upper.chain(lower).collect();
        let spine: Vec<_> = self.points.iter().filter_map(|p| place(p, p.y)).collect();
        if spine.is_empty() {
            return;
        }
        let _ = writeln!(
            svg,
            "<path class=\"band\" fill=\"{}\" d=\"M{}Z\"/>\
             <path class=\"line\" {} d=\"M{}\"/>",
            colour(index),
            path(band),
            stroke(index),
            path(spine),
        );
    }
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// How a line is drawn: solid as long as there are colours, then dashed ever shorter.
fn stroke(index: usize) -> String {
    let colour = colour(index);
    match index / COLOURS.len() {
        0 => format!("stroke=\"{colour}\""),
        round => format!(
            "stroke=\"{colour}\" stroke-dasharray=\"{}\"",
            8.0 / round as f64
        ),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let line = |name: &str, factor: f64| Line {
            name: name.to_owned(),
            points: (1..100)
                .map(|i| {
                    let y = factor / f64::from(i);
                    Point {
                        x: f64::from(i),
                        y,
                        low: y * 0.8,
                        high: y * 1.3,
                    }
                })
                .collect(),
        };
        let panel = |x_log| Panel {
            x_label: "steps".into(),
            y_label: "loss".into(),
            x_log,
            y_log: true,
            lines: vec![line("a<b", 1.0), line("c", 3.0)],
        };
        Figure {
            title: "T & U".into(),
            panels: vec![panel(false), panel(true)],
        }
    }

    #[test]
    fn a_figure_has_every_line_in_every_panel_and_one_legend() {
        let svg = figure().to_svg();
        assert_eq!(svg.matches("class=\"band\"").count(), 4);
        assert_eq!(svg.matches("a&lt;b").count(), 1);
        assert!(svg.contains("T &amp; U") && !svg.contains("NaN"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn more_lines_than_colours_can_still_be_told_apart() {
        let strokes: Vec<String> = (0..3 * COLOURS.len()).map(stroke).collect();
        for (i, one) in strokes.iter().enumerate() {
            assert!(!strokes[..i].contains(one), "{one}");
        }
    }

    #[test]
    fn values_that_have_no_place_are_left_out() {
        let mut figure = figure();
        figure.panels[0].lines[0].points[3].y = f64::NAN;
        figure.panels[0].lines[0].points[4].low = 0.0;
        figure.panels[1]
            .lines
            .iter_mut()
            .for_each(|line| line.points.clear());
        assert!(!figure.to_svg().contains("NaN"));
        assert!(!figure.to_svg().contains("inf"));
    }
}
