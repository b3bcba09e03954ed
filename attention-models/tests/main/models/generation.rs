//! Sampling and beams, on models that say by a table which token follows another.

use attention_models::models::generation::{
    BeamConfig, EarlyStopping, GenerationConfig, GenerationState, LanguageModel, Prompt, Sampling,
    beam_search, generate, stream,
};
use attention_models::ops::AttentionError;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::decoders::{following, model, text};
/// Says by a table which token follows another; 0 begins and 1 ends a sequence.
struct Chain(Vec<Vec<f32>>);

struct Last(Vec<i64>);

impl GenerationState for Last {
    fn select(&mut self, rows: &[usize]) {
        self.0 = rows.iter().map(|&row| self.0[row]).collect();
    }
}

impl LanguageModel for Chain {
    type State = Last;

    fn next_logits(
        &self,
        tokens: Tensor<2, Int>,
        state: &mut Last,
    ) -> Result<Tensor<2>, AttentionError> {
        let [batch, new] = tokens.dims();
        let given: Vec<i64> = tokens.into_data().iter::<i64>().collect();
        state.0 = given.chunks(new).map(|row| row[new - 1]).collect();
        let rows = state
            .0
            .iter()
            .flat_map(|&token| self.0[token as usize].clone());
        let logits: Vec<f32> = rows.map(f32::ln).collect();
        let vocabulary = self.0.len();
        let logits = TensorData::new(logits, [batch, vocabulary]);
        Ok(Tensor::from_data(logits, &Device::flex()))
    }

    fn device(&self) -> Device {
        Device::flex()
    }
}

/// The likeliest first token leads to an unlikely end.
fn garden_path() -> Chain {
    Chain(vec![
        vec![0.0, 0.0, 0.6, 0.4],
        vec![0.0, 1.0, 0.0, 0.0],
        vec![0.0, 0.3, 0.35, 0.35],
        vec![0.0, 0.9, 0.05, 0.05],
    ])
}

fn beams(chain: &Chain, beams: usize, new: usize, stopping: EarlyStopping) -> Vec<i64> {
    let prompt = Prompt::left_padded(&[vec![0]], 0).unwrap();
    let config = GenerationConfig::new(new).with_end_tokens(vec![1]);
    let search = BeamConfig::new(beams)
        .with_length_penalty(0.0)
        .with_early_stopping(stopping);
    beam_search(chain, prompt, Last(vec![0]), &config, &search)
        .unwrap()
        .concat()
}

#[test]
fn beams_find_the_likeliest_sequence_where_greed_does_not() {
    let chain = garden_path();
    let prompt = || Prompt::left_padded(&[vec![0]], 0).unwrap();
    let config = GenerationConfig::new(4).with_end_tokens(vec![1]);
    let greedy = generate(&chain, prompt(), Last(vec![0]), config).unwrap();
    assert_eq!(greedy[0][0], 2);
    // 0.4 * 0.9 is more than anything that starts with 2.
    assert_eq!(beams(&chain, 3, 4, EarlyStopping::Never), [3, 1]);
    assert_eq!(beams(&chain, 3, 4, EarlyStopping::Heuristic), [3, 1]);
    assert_eq!(beams(&chain, 3, 4, EarlyStopping::Always), [3, 1]);
}

#[test]
fn one_beam_is_greedy_and_sequences_of_a_batch_do_not_mix() {
    let model = model("llama");
    let rows = [text(7, 1), text(3, 40)];
    let config = GenerationConfig::new(6);
    let search = |rows: &[Vec<i64>], beams: usize| {
        let prompt = Prompt::left_padded(rows, 0).unwrap();
        let cache = model.cache(&prompt, 6).unwrap();
        beam_search(&model, prompt, cache, &config, &BeamConfig::new(beams)).unwrap()
    };
    assert_eq!(search(&rows, 1), following(&model, &rows, 6));
    let together = search(&rows, 4);
    let alone = rows
        .each_ref()
        .map(|row| search(std::slice::from_ref(row), 4).concat());
    assert_eq!(together, alone);
}

#[test]
fn a_stream_gives_a_token_of_each_sequence_until_it_ends() {
    // 2 goes on to 3, 3 ends.
    let chain = Chain(vec![
        vec![0.0, 0.0, 1.0, 0.0],
        vec![0.0, 1.0, 0.0, 0.0],
        vec![0.0, 0.0, 0.0, 1.0],
        vec![0.0, 1.0, 0.0, 0.0],
    ]);
    let prompt = Prompt::left_padded(&[vec![0], vec![2]], 0).unwrap();
    let config = GenerationConfig::new(9).with_end_tokens(vec![1]);
    let steps = stream(&chain, prompt, Last(vec![]), config).unwrap();
    let steps: Vec<_> = steps.map(Result::unwrap).collect();
    let expected = [
        vec![Some(2), Some(3)],
        vec![Some(3), Some(1)],
        vec![Some(1), None],
    ];
    assert_eq!(steps, expected);
}

#[test]
fn sampling_outside_of_its_domain_is_refused() {
    let prompt = Prompt::left_padded(&[vec![0]], 0).unwrap();
    let config = GenerationConfig::new(1).with_sampling(Sampling::Random {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        seed: 0,
    });
    let refusal = generate(&garden_path(), prompt, Last(vec![]), config);
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "`temperature` is 0; accepted: a positive number; or greedy"
    );
}
