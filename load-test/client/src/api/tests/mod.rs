mod decoding;
mod encoding;

use super::Api;

#[test]
fn the_base_path_is_the_path_of_the_providers_server() {
    assert_eq!(Api::OpenAiChat.provider().base_path(), "/v1");
    assert_eq!(Api::AnthropicMessages.provider().base_path(), "");
}

#[test]
fn every_name_belongs_to_one_api() {
    let mut names: Vec<_> = Api::ALL
        .iter()
        .flat_map(|api| api.names())
        .map(|name| name.name)
        .collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
}
