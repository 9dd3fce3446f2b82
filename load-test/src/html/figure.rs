//! A plot with its heading and caption.

use maud::{Markup, html};

/// A plot with its heading and caption.
pub(super) fn figure(title: &str, plot: &Markup, caption: &Markup) -> Markup {
    html! {
        figure {
            h3 { (title) }
            (plot)
            figcaption { (caption) }
        }
    }
}

/// An entry of a plot's key: a colour and its meaning.
pub(super) fn key(class: &str, meaning: &str) -> Markup {
    html! { span class="key" { span class=(format!("swatch {class}")) {} (meaning) } }
}
