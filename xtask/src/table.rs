//! Plain tables for a terminal.
//!
//! In: rows of cells, the first row being the headings. Out: lines with aligned columns. Refuses nothing.

/// Aligns the columns of `rows`, two spaces apart.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let rows =
            [["stage", "took"], ["unit tests", "1.0 s"], ["lints", ""]].map(|row| row.map(String::from));
        assert_eq!(aligned(&rows), "stage       took\nunit tests  1.0 s\nlints\n");
    }
}
