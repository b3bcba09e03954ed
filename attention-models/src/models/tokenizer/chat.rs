use super::TokenizerError;

/// How a model was taught to read a conversation.
///
/// Of the templates that models come with, ChatML is known: each message between `<|im_start|>`
/// with the name of who speaks and `<|im_end|>`, and perhaps a message of the system that stands
/// where the conversation has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTemplate {
    system: Option<String>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who sets the rules.
    System,
    /// Who asks.
    User,
    /// Who answers: the model.
    Assistant,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }
}

const LOOP: &str = "{% for message in messages %}";
const SYSTEM_START: &str =
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n";
const SYSTEM_END: &str = "<|im_end|>\n' }}{% endif %}";
/// Every message in the same way.
const MESSAGES: [&str; 2] = [
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}",
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}",
];
/// The answer begins.
const ANSWER: &str = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

impl ChatTemplate {
    /// Reads a template in Jinja, as models' files have it.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Template`] for every template but ChatML's, with where it departs from it.
    pub fn parse(template: &str) -> Result<Self, TokenizerError> {
        let text = template
            .trim()
            .replace("\\n", "\n")
            .replace("{%- ", "{% ")
            .replace(" -%}", " %}");
        let Some(rest) = text.strip_prefix(LOOP) else {
            return Err(unknown(&text));
        };
        let (system, rest) = match rest.strip_prefix(SYSTEM_START) {
            None => (None, rest),
            Some(rest) => {
                let (system, rest) = rest.split_once(SYSTEM_END).ok_or_else(|| unknown(rest))?;
                (Some(system.to_string()), rest)
            }
        };
        let messages = MESSAGES.iter().find_map(|form| rest.strip_prefix(form));
        let rest = messages.ok_or_else(|| unknown(rest))?;
        if rest.trim() == ANSWER {
            Ok(Self { system })
        } else {
            Err(unknown(rest))
        }
    }

    /// The text that a model reads of a conversation; its answer follows.
    pub fn render(&self, messages: &[Message]) -> String {
        let first = messages.first().map(|message| message.role);
        let system = match &self.system {
            Some(system) if first != Some(Role::System) => {
                Some(Message::new(Role::System, system.as_str()))
            }
            _ => None,
        };
        let mut text = String::new();
        for Message { role, content } in system.iter().chain(messages) {
            text += &format!("<|im_start|>{}\n{content}<|im_end|>\n", role.name());
        }
        text + "<|im_start|>assistant\n"
    }
}

fn unknown(rest: &str) -> TokenizerError {
    let start: String = rest.chars().take(60).collect();
    TokenizerError::Template {
        reason: format!("it departs from ChatML at {start:?}; accepted: ChatML"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn chatml_adds_the_models_own_system_message_where_there_is_none() {
        let template = ChatTemplate::parse(SMOLLM2).unwrap();
        let question = Message::new(Role::User, "Hi");
        assert_eq!(
            template.render(std::slice::from_ref(&question)),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
             Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        let rules = Message::new(Role::System, "Be brief.");
        assert_eq!(
            template.render(&[rules, question]),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\n"
        );
    }

    #[test]
    fn escaped_line_breaks_and_a_template_without_system_message_are_chatml_too() {
        let escaped = SMOLLM2.replace('\n', "\\n");
        assert_eq!(
            ChatTemplate::parse(&escaped).unwrap(),
            ChatTemplate::parse(SMOLLM2).unwrap()
        );
        let plain = format!("{LOOP}{}{ANSWER}", MESSAGES[0]);
        assert_eq!(ChatTemplate::parse(&plain).unwrap().system, None);
    }

    #[test]
    fn another_template_is_refused_with_where_it_departs() {
        let llama = "{% for message in messages %}{{ '[INST] ' + message['content'] }}{% endfor %}";
        let error = ChatTemplate::parse(llama).unwrap_err().to_string();
        assert!(
            error.contains("departs from ChatML at \"{{ '[INST] '"),
            "{error}"
        );
        let changed = SMOLLM2.replace("{% if add_generation_prompt %}", "{% if true %}");
        assert!(ChatTemplate::parse(&changed).is_err());
    }
}
