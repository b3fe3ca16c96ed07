"""Sentences of the telephone, and of its machines, with slots.

`grammar` fills the {slots}; every other word must be in the vocabulary (a test holds that). The later ones are those of
months, money, ordinals, spelling, voicemail and listening.
"""

CALLERS = """
yes
no
yeah
yep
nope
okay
sure
hello
hi
help
operator
agent
representative
goodbye
bye
thank you
thanks
cancel
stop
wait
correct
wrong
pardon
what
sorry what
great thank you
perfect thanks
that is fine
that's right
that is right
that is not correct
yes please
no thank you
no thanks
yes it is
no it is not
yes that is correct
no that is wrong
i don't know
i do
i do not
yes i can
no i can not
okay
okay thank you
okay thank you bye
thank you goodbye
thank you goodbye
thank you so much
thanks bye
good morning
good afternoon
good evening
hello good {part}
hello
hello is someone there
hello who is this
hello can you hear me
can you hear me
can you hear me now
i can hear you
i can not hear you
hello i need help
hello i would like to book an appointment
hi i need to speak with {dept}
how are you
i am fine thank you
repeat that please
can you repeat that
could you repeat that please
please say that again
what was that
sorry i do not know
sorry can you say that again
let me check
hold on
hold on a minute
please hold
wait a minute
one minute please
one moment please
i'm on hold
call me back later
can you call me back tomorrow {part}
can you call me back at {time}
let me talk to someone
i want to speak with a human
i would like to speak with {dept}
i'd like to talk to {dept}
can i speak to {dept} please
i need to talk to a representative
transfer me to {dept}
please transfer me to {dept}
please transfer me to {dept}
please transfer me to billing
can you transfer me to {dept} please
could you transfer my call to {dept}
{dept} please
i need help with my {thing}
i have a {thing}
my {thing} is not working
my {thing} is wrong
i want to check my {thing}
what is the status of my {thing}
check my account balance
what is my balance
what is my account balance
i want to pay my bill
pay my bill please
how do i pay my bill
i would like to make a payment
i'd like to make a payment
i lost my card
i lost my password
reset my password please
how do i reset my password
i need to reset my password
i want to cancel my order
cancel my appointment
cancel my appointment on {day}
i need to cancel my appointment on {day}
i would like to cancel my appointment for {day} {part}
i would like to book an appointment
i would like to book an appointment for {day}
i would like to book an appointment for {day} {part}
i would like to book an appointment for {day} {part}
i'd like to book an appointment for {day}
i'd like to book an appointment for {day} at {time}
i want to book an appointment on {day}
i need an appointment for {day} {part}
book an appointment for {day} at {time}
make an appointment for {day} {part}
can i make an appointment for {day}
can i change my appointment to {day}
change it to {day} at {time}
schedule it for {day} {part}
can i have {day} at {time}
{day}
{day} please
next {day}
{day} {part}
{day} {part} please
{day} at {time}
{day} {part} at {time}
on {day}
on {day} {part}
tomorrow {part}
tomorrow at {time}
today at {time}
next week
next week on {day}
in the {part}
this {part}
at {time}
{time}
{time} please
what time is it
what time is my appointment
when is my appointment
when can i call back
where are you
where is my order
where is my delivery
why was my order closed
what are your hours
what are your hours
what are your hours today
what are your hours on {day}
what time do you open
what time do you close
when do you open on {day}
are you open
are you open on {day}
are you open now
are you closed on {day}
will you open tomorrow
is someone there
who is this
who is there
main menu
main menu please
press {digit}
press star
press pound
press {digit} for {dept}
my account number is {digits4}
my account number is {digits4}
my account number is {digits}
account number {digits}
the account number is {digits}
my phone number is {phone}
phone number {phone}
my number is {phone}
call me at {phone}
the number is {digits}
my order number is {digits}
order number {digits}
my card number is {digits}
it's {digits}
it is {digits}
yes it's {digits}
my password is {digits4}
number {digit}
number {number}
{number}
{number} {number}
{number} and {number}
{digit} or {digit}
double {digit}
{digit} double {digit} {digit}
one hundred and {number}
{number} days
{number} hours
{number} minute
have a good day
are you here today
how much is it
how much do i pay
how much is my bill
i want a refund
i would like a refund please
i want to return my order
i need to return this
does it have my name on it
is my name on the account
what is my name
change my address please
my name is not right
it's the wrong number
i have the wrong number
you have the wrong number
you are wrong
stop
stop stop
no no
yes yes
i'm sorry
i need technical support
my internet is not working
my phone is not working
do you know my name
can you help me
could you help me please
what do you want
what can i do
that is all
that is all thank you
that was all thanks
this is a test
testing one two three
test
i said {word}
i said {digit}
from {day} to {day}
from {time} to {time}
by {day}
by {day} {part}
""".strip().split("\n")

LATER = """
uh-huh
uh-huh
mhm
mhm
mm
uh-huh okay
uh-huh yes
mhm okay
uh-huh i know
uh-huh uh-huh
mm yes
mm okay
mhm mhm
{month}
{month}
{ordinal}
{ordinal}
the {ordinal}
{date}
{date}
on {date}
my date of birth is {date}
date of birth {date} {year}
my birth date is {date} {year}
{date} {year}
{year}
the year {year}
{month} {year}
in {month}
next {month}
last {month}
book an appointment for {date}
i would like an appointment on {date}
can i change it to {date} please
can you schedule it for {day} {date}
{day} {date}
{day} the {ordinal}
the {ordinal} of {month}
from {month} to {month}
last {day}
last week
last month
last year
next month
next year
yesterday
yesterday {part}
i did call yesterday
half past {hour}
quarter past {hour}
quarter to {hour}
at half past {hour}
{hour} o'clock
at {hour} o'clock
it's {hour} o'clock now
in {number} minutes
{number} minutes
{number} days
{money}
{money}
{money} please
it is {money}
i want to pay {money}
i would like to pay {money}
my balance is {money}
my bill is {money}
the balance on your account is {money}
can i have a refund of {money}
a payment of {money}
how much is that
transfer {money} to my account
{thousands}
{thousands}
my name is {spelled}
my last name is {spelled}
my first name is {spelled}
last name {spelled}
first name {spelled}
that's {spelled}
it's {spelled}
i spell it {spelled}
can you spell that please
can you spell your name please
please spell your last name
how do you spell that
could you spell your first name
what is your date of birth
what is your name
what is your last name
what is your email address
my email is {spelled} dot {spelled} at {spelled} dot c o m
{letter}
{letter}
{letter} {digits4}
{letter} {letter} {digits4}
{spelled} {digits4}
{digits4} {letter}
{digits4} dash {digits4}
{digit} dot {digit}
dash
dot
order number {letter} {letter} dash {digits4}
please leave a message after the tone
please leave a message after the tone
please leave your message after the tone
please leave your name and number after the tone
leave a message after the beep
please leave your message after the beep
leave a message
i would like to leave a message
can i leave a message please
can i leave a message for {dept}
the person you are calling is not available
the person you are calling is not available please leave a message after the tone
i am not available right now
is not available
not available
we are not available now
i can not speak now
you have reached {phone}
you have reached the voicemail of {spelled}
you have reached the mailbox of
you have reached {dept}
you have reached my voicemail
the mailbox is closed
the mailbox you have reached is not working
the number you have reached is not working
voicemail
mailbox
message
your call is important
your call is important to us please hold
your call is important please wait
thank you for calling
thank you for calling please hold
thank you for calling support
thank you for calling how can i help you
please hold
please hold i will transfer your call
please hold for the next available agent
please hold the next agent will help you
no agent is available now
please hold the line
please try again
please try again later
try again
try again in {number} minutes
please call back later
press {digit} to leave a message
press {digit} for {dept}
press pound
to leave a message press {digit}
for {dept} press {digit}
to repeat this message press {digit}
to cancel press {digit}
say your name after the tone
my email address is not right
change my email address
say it by email
you have {number} message
message please
i said {word}
{word}
{word} {word}
""".strip().split("\n")
