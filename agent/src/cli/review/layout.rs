//! Where what goes on the screen.

use ratatui::layout::Rect;

/// From this width on, list and page are side by side.
const WIDE: u16 = 140;
/// Smaller screens show nothing that could be answered.
const SMALLEST: (u16, u16) = (60, 12);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) is_wide: bool,
    pub(super) is_too_small: bool,
    pub(super) bar: Rect,
    pub(super) list: Rect,
    pub(super) page: Rect,
    /// Both, for questions and help.
    pub(super) whole: Rect,
    pub(super) notice: Rect,
    pub(super) keys: Rect,
}

impl Layout {
    pub(super) fn of((width, height): (u16, u16)) -> Self {
        let row = |y, height| Rect {
            x: 0,
            y,
            width,
            height,
        };
        let whole = row(1, height.saturating_sub(3));
        let is_wide = width >= WIDE;
        let (list, page) = match is_wide {
            true => {
                let left = width * 2 / 5;
                let page = Rect {
                    x: left + 2,
                    width: width - left - 2,
                    ..whole
                };
                (
                    Rect {
                        width: left,
                        ..whole
                    },
                    page,
                )
            }
            false => (whole, whole),
        };
        Self {
            is_wide,
            is_too_small: width < SMALLEST.0 || height < SMALLEST.1,
            bar: row(0, 1.min(height)),
            list,
            page,
            whole,
            notice: row(height.saturating_sub(2), 1.min(height)),
            keys: row(height.saturating_sub(1), 1.min(height)),
        }
    }
}
