"""Pairs of texts that ask for different answers, by what a model of embeddings hardly sees, or not at all."""

from __future__ import annotations

TURNED = {
    "sign": """
What does 😀 mean? | What does 😢 mean?
I feel 👍 about it, why? | I feel 👎 about it, why?
is the 🔴 light on | is the 🟢 light on
what does ✅ say | what does ❌ say
who lives in 🇫🇷 | who lives in 🇩🇪
What does 👨‍👩‍👧 show? | What does 👨‍👩‍👦 show?
what does ↑ mean | what does ↓ mean
What is ♀? | What is ♂?
name of ∀ | name of ∃
what is x ∈ S | what is x ∉ S
What is ₿5 worth? | What is ₽5 worth?
what is 5₩ | what is 5₪
is ♠ higher than ♥ | is ♥ higher than ♠
how do you say :) in words | how do you say :( in words
I rate it ★★★ | I rate it ★★★★
What is 2²? | What is 22?
what is 10⁶ | what is 106
what does version ≥ 2 mean | what does version ≤ 2 mean
""",
    "operator": """
why use x++ | why use ++x
what is 5 + 3 - 2 | what is 5 - 3 + 2
what is (a+b)*c | what is a+(b*c)
why is i < n ok | why is n < i ok
what does !x mean | what does x mean
what does . mean in bash | what does .. mean in bash
delete *.py | delete *.pyc
cat a > b | cat b > a
chmod +x file | chmod +r file
""",
    "person": """
What are your rights? | What are my rights?
How can I give you money? | How can you give me money?
Do I have to do it? | Do you have to do it?
why do I trust you | why do you trust me
Is it me or you? | Is it you or me?
Can you help me? | Can I help you?
Can they sue me? | Can I sue them?
is this our house | is this your house
what is mine | what is yours
do you have a plan | do I have a plan
""",
    "doer": """
Who owns Google? | Who does Google own?
who taught plato | who did plato teach
what do bees eat | what eats bees
""",
    "helping verb": """
can he swim | could he swim
can I eat it | should I eat it
what should I eat | what can I eat
What would happen if it rained? | What will happen if it rained?
You can refuse, right? | You must refuse, right?
Do I have to? | Do I want to?
do you want help | do you need help
Is it recommended to fast? | Is it required to fast?
""",
    "and, or": """
Do I need a passport and a visa? | Do I need a passport or a visa?
Is A and B true? | Is A or B true?
who are these people | who are those people
is it over there | is it over here
find the answer | find the question
how do I do it | why do I do it
""",
    "condition": """
Can I enter provided I have a ticket? | Can I enter even if I have a ticket?
barring rain, is the game on | given rain, is the game on
is it fine as long as it rains | is it fine even when it rains
Is it true despite the evidence? | Is it true because of the evidence?
Show all files other than logs | Show all files such as logs
Delete everything apart from backups | Delete everything as well as backups
is it nearly done | is it done
a few people | few people
is it too hot | is it hot enough
Is it gluten free? | Is it gluten?
""",
    "particle": """
How do I turn on dark mode? | How do I turn off dark mode?
how do i zoom in | how do i zoom out
Where do I check in? | Where do I check out?
Is it open until noon? | Is it open from noon?
Did she arrive ahead of him? | Did she arrive behind him?
What should I do prior to surgery? | What should I do following surgery?
Is there life on Mars? | Is there life in Mars?
up to 5 people | over 5 people
""",
    "part of a word": """
is this medication useful | is this medication useless
is the operation stateful | is the operation stateless
is my behavior normal | is my behavior abnormal
Is this triangle symmetric? | Is this triangle asymmetric?
was he underpaid | was he overpaid
What causes hyperglycemia? | What causes hypoglycemia?
define macroeconomics | define microeconomics
prewar germany economy | postwar germany economy
what do employers pay | what do employees pay
what does the lessor pay | what does the lessee pay
Is it pro-choice policy? | Is it anti-choice policy?
""",
    "letter": """
is blood type a rare | is blood type o rare
vitamin a dosage | vitamin d dosage
what is plan a | what is plan b
is the x axis flipped | is the y axis flipped
who is generation x | who is generation z
""",
    "capital": """
Is Turkey big? | Is turkey big?
what is a Polish remover | what is a polish remover
what is May like | what is may like
""",
    "word in its place": """
Is the meeting optional? | Is the meeting mandatory?
can a vegan eat it | can a vegetarian eat it
rewrite in uppercase | rewrite in lowercase
Are the symptoms of viral pneumonia bad? | Are the symptoms of bacterial pneumonia bad?
My son is sick, what do I do? | My dog is sick, what do I do?
""",
    "unit": """
a 3 tonne truck | a 3 ton truck
""",
    "other language": """
¿Cómo abro la puerta? | ¿Cómo cierro la puerta?
Come apro la porta? | Come chiudo la porta?
Quel est le plus grand pays ? | Quel est le plus petit pays ?
Puis-je fumer ici ? | Dois-je fumer ici ?
Это безопасно? | Это небезопасно?
Je to bezpečné? | Je to nebezpečné?
Bu güvenli mi? | Bu güvenli değil mi?
Är det säkert? | Är det inte säkert?
האם זה בטוח? | האם זה לא בטוח?
이 약은 안전합니까? | 이 약은 안전하지 않습니까?
这个药安全吗 | 这个药不安全吗
""",
}


def turned() -> list[tuple[str, str, str]]:
    """Return of what kind the difference is, and the two texts."""
    return [
        (kind, *line.split(" | ", 1)) for kind, lines in TURNED.items() for line in lines.splitlines() if " | " in line
    ]
