"""Pairs of texts: some where one thing was changed that turns the answer, some that ask the same in other words."""

from __future__ import annotations

import itertools

_FRAMES = {
    "number": [
        ("What is {} plus 25?", "17 18 170 1.7 -17 seventeen"),
        ("Convert {} miles to kilometers", "5 50 five fifty 0.5"),
        ("Who was the {} president of the United States?", "first second 16th 17th last"),
        ("Write a summary in {} sentences", "3 30 two ten"),
        ("List the top {} reasons to exercise", "5 15 ten"),
        ("what happened in {}", "1914 1915 1941"),
        ("Compute the {} root of 64", "square cube fourth"),
        ("Give me {} ideas for a birthday party", "three four 3 12"),
        ("What is {}% of 250?", "10 20 12.5"),
        ("Set the timeout to {} seconds", "30 300 3"),
    ],
    "negation": [
        ("Is aspirin {}safe with ibuprofen?", "|not |never "),
        ("Which of these animals are {}mammals?", "|not "),
        ("Is it {}legal to park here?", "|il"),
        ("List foods that contain {} gluten", "some|no"),
        ("Write an essay {} using the letter e", "while|without"),
        ("Why {} I take this medicine with milk?", "should|shouldn't|can't"),
        ("Is this statement {}true?", "|un"),
        ("Which countries {} have a king?", "do|don't|never"),
        ("Sort the list {}changing the original", "by |without "),
        ("Tell me everything {} the ending", "about|except|but"),
        ("Is the number 91 {}prime?", "|not |non-"),
        ("Are these two drugs {}compatible?", "|in"),
        ("Was the treaty {}ratified in the end?", "|not |never "),
        ("Can a function be {}pure?", "|im"),
    ],
    "name": [
        ("What is the capital of {}?", "France Germany Peru Niger Nigeria"),
        ("who won the world cup when it was held in {}", "germany italy brazil"),
        ("Write a letter to {}", "Anna Peter Maria Zbigniew Oluwaseun"),
        ("How far is {} from London?", "Paris Berlin Timbuktu"),
        ("Summarize the plot of {}", "Hamlet Macbeth Ulysses Dracula"),
        ("{} was born in which year?", "Einstein Newton Curie Noether"),
        ("Tell me about the history of {}", "Microsoft Apple Siemens Zalando"),
        ("is {} an element", "helium neon argon"),
        ("What language do people speak in {}?", "Brazil Angola Quebec"),
        ("Compare the climate of Madrid and {}", "Rome Oslo Lima"),
        ("Which river flows through {}?", "Vienna Cologne Kaluga"),
        ("Write a unit test for the class {}", "Parser Lexer TokenStream"),
    ],
    "unit": [
        ("How many {} are in a marathon?", "miles kilometers meters"),
        ("Convert 100 {} to celsius", "fahrenheit kelvin"),
        ("The patient weighs 70 {}. What is the dose?", "kg lb g"),
        ("Add 250 {} of milk", "ml g cups"),
        ("What does 20{} buy in Lisbon?", "€ $ £"),
        ("Sleep for 10 {}", "ms s minutes hours"),
        ("The file is 12 {} large. How long is the download?", "MB GB KB"),
        ("How much is 3 {} of gold worth?", "ounces grams kilograms"),
        ("How fast is 90 {}?", "mph knots km/h"),
    ],
    "language": [
        ("Translate 'good morning' to {}", "French German Spanish Japanese"),
        ("How do you say thank you in {}?", "Polish Finnish Thai"),
        ("write hello world in {}", "python rust haskell"),
        ("Answer in {}: what is a noun?", "English Dutch Latin"),
        ("Explain closures in {}", "JavaScript Swift Perl"),
        ("Correct the {} in this text", "English German Italian"),
    ],
    "opposite": [
        ("What is the {} mountain in Africa?", "highest lowest"),
        ("Sort the numbers in {} order", "ascending descending"),
        ("What happened {} the French Revolution?", "before after during"),
        ("Find the {} of these values", "maximum minimum mean median"),
        ("Name the {} planets of the solar system", "inner outer"),
        ("How do I {} the firewall?", "enable disable"),
        ("What are the {} of remote work?", "advantages disadvantages"),
        ("Does the price {} with demand?", "rise fall"),
        ("Is Python {} than Java?", "faster slower older newer"),
        ("How do I {} a file from the server?", "upload download delete"),
        ("Flights {} Rome", "to from"),
        ("Who is {} than the president?", "older younger richer"),
        ("Please {} this password", "encrypt decrypt hash"),
        ("Which is {}, a meter or a yard?", "longer shorter heavier"),
        ("Are there {} prime numbers below ten?", "odd even"),
        ("Show all users who logged in {} Monday", "before after since until"),
        ("Write the function for the {} case", "best worst average"),
    ],
    "quoted": [
        ('What does "{}" mean?', "carpe diem|memento mori|ad hoc"),
        ("Spell the word '{}' backwards", "stressed|desserts"),
        ("What is the sentiment of “{}”?", "I love it|I hate it|it is fine"),
        ("How many letters does `{}` have?", "banana|bananas"),
    ],
    "code": [
        ("What does {} return?", "os.listdir()|os.getcwd()|os.walk()"),
        ("Fix the bug: x {} 3", "<|<=|>|=="),
        ("Why does my_{} fail?", "function|variable|module"),
        ("Explain the file /etc/{}", "passwd|shadow|hosts"),
        ("What is at https://example.org/{}?", "a|b"),
        ("Explain the flag --{}", "force|dry-run"),
        ("Is getUser{} called twice?", "Name|Id"),
        ("What changed in version 3.{}?", "10|11|1"),
    ],
    "date": [
        ("What is the weather like in {}?", "January July october"),
        ("Plan a trip for {}", "today tomorrow Monday friday"),
        ("What was the news {}?", "yesterday today|last week|this week"),
        ("Which holidays are in the {} quarter?", "first second next"),
        ("What happened on {} 4?", "July June"),
        ("Is the shop open on {}?", "Sunday Saturday weekdays"),
    ],
    "word": [
        ("How do I reset my {}?", "password username router"),
        ("What is a good recipe for {} soup?", "tomato potato lentil"),
        ("Write a poem about the {}", "sea moon desert"),
        ("What is the population of the {}?", "city country world"),
        ("Explain how a {} engine works", "diesel steam jet"),
        ("Why do {} purr?", "cats tigers"),
        ("Is it healthy to eat {} every day?", "eggs nuts sugar"),
        ("What is the {} formula of water?", "chemical structural empirical"),
        ("Should I use a list or a {}?", "tuple set dict"),
        ("Write a test for the {} of the parser", "speed errors memory"),
    ],
    "few words": [
        ("{} endian", "big little"),
        ("{} time", "compile run"),
        ("the {} rate", "birth death growth"),
        ("{} market", "bull bear flea"),
        ("a {} option", "call put stock"),
    ],
    "tense": [
        ("Who {} the president of the club?", "is was"),
        ("{} the museum open on holidays?", "Is Was"),
        ("What {} the population of the village?", "is was"),
        ("{} it rain a lot here?", "Does Did Will Won't"),
        ("Where {} the workers live?", "do did will"),
        ("{} the shop closed?", "Isn't Wasn't"),
        ("What {} he done for the team?", "has had"),
        ("they{} here, so what happens?", "'re|'ll"),
    ],
    "sign": [
        ("Draw f(x)={}x", "|-"),
        ("What does {} do?", "-rf|-r|-f"),
        ("what is the value of y = {}a", "|-"),
        ("{}", "--max-cost|--max-heads"),
    ],
    "order": [
        ("Does {} beat {}?", "paper rock|rock paper"),
        ("Subtract {} from {}", "a b|b a"),
        ("Translate from {} to {}", "German French|French German"),
        ("Is {} bigger than {}?", "Mars Venus|Venus Mars"),
        ("Does smoking cause {} or {}?", "cancer stress|stress cancer"),
    ],
}
AROUND = ("{}", "Please answer briefly. {}", "{} Explain your reasoning step by step.")


def changed() -> list[tuple[str, str, str]]:
    """Return what was changed, and two texts that ask for different answers."""
    pairs = []
    for kind, frames in _FRAMES.items():
        for frame, values in frames:
            given = values.split("|") if "|" in values else values.split()
            texts = [frame.format(*value.split()) if frame.count("{}") > 1 else frame.format(value) for value in given]
            for one, other in itertools.combinations(texts, 2):
                pairs += [(kind, around.format(one), around.format(other)) for around in AROUND]
    return pairs


SAME = [
    ("How do I reset my password?", "What are the steps to reset my password?"),
    ("How can I reset my password?", "I forgot my password, how can I change it?"),
    ("What is the capital of France?", "Tell me the capital of France."),
    ("How do I bake a chocolate cake?", "What is a good recipe for baking a chocolate cake?"),
    ("Explain how photosynthesis works", "Can you describe the process of photosynthesis?"),
    ("Why is the sky blue?", "Why does the sky look blue?"),
    ("What's the best way to learn Python?", "How should I go about learning Python?"),
    ("Write a poem about the sea", "Compose a short poem on the sea"),
    ("How does a car engine work?", "Explain the workings of a car engine"),
    ("What is machine learning?", "Explain machine learning to me"),
    ("Please summarize this article for me", "Can you give me a summary of this article?"),
    ("What causes inflation?", "Why does inflation happen?"),
    ("How do I cancel my subscription?", "I want to cancel my subscription, how do I do that?"),
    ("What is the meaning of life?", "Tell me what the meaning of life is"),
    ("Hi, could you explain recursion?", "Explain recursion please"),
    ("what are the benefits of yoga", "What are the benefits of yoga?"),
    ("How do vaccines work?", "Could you explain to me how vaccines work?"),
    ("Who wrote Hamlet?", "Who is the author of Hamlet?"),
    ("How tall is the Eiffel Tower?", "What is the height of the Eiffel Tower?"),
    ("Give me a recipe for pancakes", "How do I make pancakes?"),
    ("How can I improve my writing?", "What can I do to improve my writing?"),
    ("What is a black hole?", "Can you tell me what a black hole is?"),
    ("How do I sort a list in Python?", "In Python, how can a list be sorted?"),
    ("What does a database index do?", "Explain what a database index does"),
    ("How do I delete my account?", "Please tell me how I can delete my account"),
    ("Thanks! What is a tensor?", "What is a tensor?"),
    ("Where can I find my invoices?", "Where are my invoices?"),
    ("Is it safe to drink tap water?", "Is tap water safe to drink?"),
    ("What's the difference between TCP and UDP?", "How do TCP and UDP differ?"),
    ("Why do leaves change color?", "What makes leaves change their color?"),
]
"""Two ways to ask for the same answer."""
