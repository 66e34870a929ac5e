//! What the guide says of itself.

use std::{fs, path::Path};

/// Lines of code of a page's blocks that compile, as a reader sees them.
fn blocks(page: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide").join(page);
    let mut blocks = Vec::new();
    let mut block: Option<Vec<String>> = None;
    for line in fs::read_to_string(path).unwrap().lines() {
        match (line.starts_with("```"), &mut block) {
            (true, None) => block = Some(Vec::new()),
            (true, Some(_)) => blocks.extend(block.take()),
            (false, Some(lines)) if !line.starts_with("# ") && !line.trim().is_empty() => {
                lines.push(line.trim().to_owned());
            }
            (false, _) => {}
        }
    }
    blocks
}

#[test]
fn a_protected_route_is_at_most_ten_lines_more() {
    let page = blocks("ten_minutes.md");
    let [plain, protected, own_login] = page.try_into().unwrap();
    let new = |line: &&String| !plain.contains(line) && !plain.contains(&format!("{line};"));
    let more = |block: &[String]| block.iter().filter(new).count();
    assert_eq!(more(&protected), 6, "{protected:#?}");
    assert!(more(&own_login) > 10, "a login of one's own is not a protected route alone");
}
