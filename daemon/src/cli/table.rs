//! Columns that line up.

use super::printer::safe;

/// Rows of cells under a header. Every cell is made safe for the terminal as it comes in.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| safe(cell)).collect());
    }

    /// The lines, each column as wide as its widest cell, two spaces between columns, nothing at a line's end.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                let wide = cell.chars().count();
                match widths.get_mut(column) {
                    Some(width) => *width = wide.max(*width),
                    None => widths.push(wide),
                }
            }
        }
        self.rows.iter().map(|row| line(row, &widths)).collect()
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        line.push_str(&format!("{cell:width$}  "));
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_clean() {
        let mut table = Table::new(&["NAME", "STATE", "WHY"]);
        table.row(["openai".to_owned(), "open".to_owned(), "3 failures".to_owned()]);
        table.row(["payments/ü".to_owned(), "half-open".to_owned(), String::new()]);
        assert_eq!(
            table.lines(),
            ["NAME        STATE      WHY", "openai      open       3 failures", "payments/ü  half-open"]
        );
    }
}
