"""One plain sentence for each class of UCF-101: ours, written for this project.

They are not the sentences of PYoCo or Make-A-Video, whose numbers are not to be compared with what
these give; a published list goes into a file of the same form (`vidjax.evaluation.prompts`).
"""

# class<TAB>sentence, in the order of the data set's class index.
SENTENCES = """\
ApplyEyeMakeup	A person applies eye makeup in front of a mirror.
ApplyLipstick	A person applies lipstick.
Archery	A person shoots an arrow with a bow.
BabyCrawling	A baby crawls across the floor.
BalanceBeam	A gymnast performs a routine on a balance beam.
BandMarching	A marching band plays while walking along a street.
BaseballPitch	A baseball player throws a pitch.
Basketball	A person throws a basketball at the hoop.
BasketballDunk	A basketball player dunks the ball.
BenchPress	A person lifts a barbell on a bench.
Biking	A person rides a bicycle.
Billiards	A person plays billiards at a pool table.
BlowDryHair	A person dries hair with a hair dryer.
BlowingCandles	A person blows out the candles on a cake.
BodyWeightSquats	A person does squats without weights.
Bowling	A person rolls a bowling ball down a lane.
BoxingPunchingBag	A person hits a heavy punching bag.
BoxingSpeedBag	A person hits a small speed bag with both fists.
BreastStroke	A swimmer swims breaststroke in a pool.
BrushingTeeth	A person brushes their teeth.
CleanAndJerk	A weightlifter lifts a barbell overhead in a clean and jerk.
CliffDiving	A person dives from a cliff into the water.
CricketBowling	A cricket player bowls the ball.
CricketShot	A cricket player hits the ball with a bat.
CuttingInKitchen	A person cuts food with a knife in a kitchen.
Diving	A diver jumps from a board into a swimming pool.
Drumming	A person plays the drums.
Fencing	Two fencers in white suits fight with their blades.
FieldHockeyPenalty	A field hockey player takes a penalty shot at the goal.
FloorGymnastics	A gymnast tumbles across the floor.
FrisbeeCatch	A person catches a flying frisbee.
FrontCrawl	A swimmer swims front crawl in a pool.
GolfSwing	A golfer swings a club and hits the ball.
Haircut	A person gets a haircut.
Hammering	A person hits a nail with a hammer.
HammerThrow	An athlete spins around and throws the hammer.
HandstandPushups	A person does push-ups in a handstand.
HandstandWalking	A person walks on their hands.
HeadMassage	A person receives a head massage.
HighJump	An athlete jumps over the bar of a high jump.
HorseRace	Horses with jockeys race along a track.
HorseRiding	A person rides a horse.
HulaHoop	A person spins a hula hoop around the waist.
IceDancing	Two skaters dance together on the ice.
JavelinThrow	An athlete runs and throws a javelin.
JugglingBalls	A person juggles several balls.
JumpingJack	A person does jumping jacks.
JumpRope	A person jumps over a skipping rope.
Kayaking	A person paddles a kayak on the water.
Knitting	Hands knit with needles and yarn.
LongJump	An athlete runs and jumps into the sand of a long jump pit.
Lunges	A person does lunges with weights.
MilitaryParade	Soldiers march in a military parade.
Mixing	A person mixes ingredients in a bowl.
MoppingFloor	A person mops the floor.
Nunchucks	A person swings a pair of nunchucks.
ParallelBars	A gymnast performs a routine on the parallel bars.
PizzaTossing	A person tosses pizza dough into the air.
PlayingCello	A person plays the cello.
PlayingDaf	A person plays the daf, a large frame drum.
PlayingDhol	A person plays the dhol, a drum that hangs from the shoulder.
PlayingFlute	A person plays the flute.
PlayingGuitar	A person plays the guitar.
PlayingPiano	A person plays the piano.
PlayingSitar	A person plays the sitar.
PlayingTabla	A person plays the tabla, a pair of hand drums.
PlayingViolin	A person plays the violin.
PoleVault	An athlete jumps over a high bar with a pole.
PommelHorse	A gymnast performs a routine on the pommel horse.
PullUps	A person does pull-ups on a bar.
Punch	A boxer punches an opponent in the ring.
PushUps	A person does push-ups on the floor.
Rafting	A group of people rafts down a river.
RockClimbingIndoor	A person climbs an indoor climbing wall.
RopeClimbing	A person climbs up a rope.
Rowing	A team rows a boat across the water.
SalsaSpin	A couple dances salsa and spins.
ShavingBeard	A person shaves his beard.
Shotput	An athlete puts the shot.
SkateBoarding	A person rides a skateboard.
Skiing	A person skis down a snowy slope.
Skijet	A person rides a jet ski over the water.
SkyDiving	A skydiver falls through the air.
SoccerJuggling	A person juggles a soccer ball with the feet.
SoccerPenalty	A soccer player takes a penalty kick.
StillRings	A gymnast performs a routine on the still rings.
SumoWrestling	Two sumo wrestlers fight in the ring.
Surfing	A surfer rides a wave.
Swing	A child sits on a moving swing.
TableTennisShot	A person plays table tennis and hits the ball.
TaiChi	A person practises tai chi with slow movements.
TennisSwing	A tennis player swings the racket.
ThrowDiscus	An athlete spins around and throws the discus.
TrampolineJumping	A person jumps on a trampoline.
Typing	Hands type on a keyboard.
UnevenBars	A gymnast swings on the uneven bars.
VolleyballSpiking	A volleyball player jumps and spikes the ball over the net.
WalkingWithDog	A person walks with a dog on a leash.
WallPushups	A person does push-ups against a wall.
WritingOnBoard	A person writes on a board.
YoYo	A person plays with a yo-yo.
"""
