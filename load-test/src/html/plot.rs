//! Plots as SVG: axes, grid, labels, bars, lines and dots. Lengths are in the drawing's units, about one pixel each.

use maud::{Markup, html};

use super::axis::Axis;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 242.0;
const LEFT: f64 = 62.0;
/// Half a label of the horizontal axis fits to the right of it.
const RIGHT: f64 = 454.0;
/// Height that a plot without labels above saves.
const UNLABELLED: f64 = 24.0;
/// The highest row of labels above the plot area, from 0.
const HIGHEST_ROW: u8 = 3;
/// The upper end of the plot area; the rows of labels are above it.
pub(super) const TOP: f64 = 50.0;
/// The lower end of the plot area.
pub(super) const BOTTOM: f64 = 196.0;

/// The axes of a plot.
pub(super) struct Plot {
    x: Axis,
    y: Axis,
    x_title: &'static str,
    y_title: &'static str,
    x_text: fn(f64) -> String,
    y_text: fn(f64) -> String,
    /// Upper end of the drawing.
    top: f64,
}

/// An axis, its title, and the format of its values.
pub(super) type LabelledAxis = (Axis, &'static str, fn(f64) -> String);

impl Plot {
    pub(super) fn new((x, x_title, x_text): LabelledAxis, (y, y_title, y_text): LabelledAxis) -> Self {
        Self {
            x: x.between(LEFT, RIGHT),
            y: y.between(BOTTOM, TOP),
            x_title,
            y_title,
            x_text,
            y_text,
            top: UNLABELLED,
        }
    }

    /// This plot with room above for rows of labels.
    pub(super) fn with_labels_above(self) -> Self {
        Self { top: 0.0, ..self }
    }

    /// Horizontal position of a value.
    pub(super) fn x(&self, value: f64) -> f64 {
        self.x.position(value)
    }

    /// Vertical position of a value.
    pub(super) fn y(&self, value: f64) -> f64 {
        self.y.position(value)
    }

    /// The whole drawing. `label` describes it for screen readers.
    pub(super) fn draw(&self, label: &str, content: &Markup) -> Markup {
        html! {
            svg viewBox=(format!("0 {} {WIDTH} {}", self.top, HEIGHT - self.top)) role="img" aria-label=(label) {
                g class="grid" {
                    @for tick in self.y.ticks() {
                        path d=(format!("M{} {}H{}", px(LEFT), px(self.y(tick)), px(RIGHT))) {}
                        text class="end" x=(px(LEFT - 6.0)) y=(px(self.y(tick) + 4.0)) { ((self.y_text)(tick)) }
                    }
                    @for tick in self.x.ticks() {
                        path d=(format!("M{} {}V{}", px(self.x(tick)), px(BOTTOM), px(BOTTOM + 4.0))) {}
                        text class="middle" x=(px(self.x(tick))) y=(px(BOTTOM + 18.0)) { ((self.x_text)(tick)) }
                    }
                }
                (content)
                path class="axis" d=(format!("M{} {}H{}", px(LEFT), px(BOTTOM), px(RIGHT))) {}
                text class="middle" x=(px(f64::midpoint(LEFT, RIGHT))) y=(px(HEIGHT - 6.0)) { (self.x_title) }
                text x="4" y=(px(TOP - 14.0)) { (self.y_title) }
            }
        }
    }

    /// The path of bars, each from one `x` to the next and from one `y` to the other.
    pub(super) fn bars(&self, bars: impl Iterator<Item = ([f64; 2], [f64; 2])>) -> String {
        let bar = |([x_from, x_to], [y_from, y_to]): ([f64; 2], [f64; 2])| {
            let (left, right) = (self.x(x_from), self.x(x_to));
            let (lower, upper) = (self.y(y_from), self.y(y_to));
            format!(
                "M{} {}H{}V{}H{}Z",
                px(left),
                px(lower),
                px(right),
                px(upper),
                px(left)
            )
        };
        bars.map(bar).collect()
    }

    /// The path of a line; it is interrupted at `None`.
    pub(super) fn line(&self, points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
        let mut path = String::new();
        let mut is_drawing = false;
        for point in points {
            if let Some((x, y)) = point {
                let place = format!("{} {}", px(self.x(x)), px(self.y(y)));
                // A line of length 0 with round ends is a dot, so that single points are visible.
                path += &if is_drawing {
                    format!("L{place}")
                } else {
                    format!("M{place}h0")
                };
            }
            is_drawing = point.is_some();
        }
        path
    }

    /// The path of dots, which are lines of length 0.
    pub(super) fn dots(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        points
            .map(|(x, y)| format!("M{} {}h0", px(self.x(x)), px(self.y(y))))
            .collect()
    }
}

/// A length with one digit after the point, as short as it can be written.
pub(super) fn px(length: f64) -> String {
    let text = format!("{length:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Rows, counted from the lowest, of labels to the right of vertical lines at these ascending positions. A label that would reach
/// the next line is in a row above that line's label.
pub(super) fn label_rows(positions: &[f64], width: f64) -> Vec<u8> {
    let mut rows: Vec<u8> = Vec::with_capacity(positions.len());
    let mut right: Option<f64> = None;
    for position in positions.iter().rev() {
        let row = match (right, rows.last()) {
            (Some(right), Some(below)) if position + width > right => (below + 1).min(HIGHEST_ROW),
            _ => 0,
        };
        rows.push(row);
        right = Some(*position);
    }
    rows.reverse();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        let labelled = |axis| -> LabelledAxis { (axis, "", |value| value.to_string()) };
        Plot::new(labelled(Axis::from_zero(392.0)), labelled(Axis::from_zero(146.0)))
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!((px(12.04).as_str(), px(0.25).as_str()), ("12", "0.2"));
    }

    #[test]
    fn a_line_is_interrupted_where_there_is_nothing() {
        let points = [Some((0.0, 0.0)), Some((10.0, 10.0)), None, Some((20.0, 0.0))];
        assert_eq!(plot().line(points.into_iter()), "M62 196h0L72 186M82 196h0");
    }

    #[test]
    fn bars_are_closed() {
        let bars = plot().bars([([0.0, 10.0], [0.0, 20.0])].into_iter());
        assert_eq!(bars, "M62 196H72V176H62Z");
    }

    #[test]
    fn a_label_that_reaches_the_next_line_lies_above_it() {
        assert_eq!(label_rows(&[0.0, 5.0, 8.0, 40.0], 30.0), [2, 1, 0, 0]);
        assert_eq!(label_rows(&[1.0; 6], 30.0), [3, 3, 3, 2, 1, 0]);
    }
}
